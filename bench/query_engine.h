// Something that answers the thirteen conditions; all are asked the same way.
#ifndef BENCH_QUERY_ENGINE_H_
#define BENCH_QUERY_ENGINE_H_

#include <cstdint>
#include <memory>

namespace muster {

class QueryEngine {
 public:
  virtual ~QueryEngine() = default;

  virtual const char* name() const = 0;
  // How many twins query `q` (from 0) selects.
  virtual int64_t Count(int q) = 0;
  // Writes their ids, which are the engine's own, and returns how many.
  // REQUIRES: room for all twins and 64 more at `ids`.
  virtual int64_t Enumerate(int q, uint32_t* ids) = 0;
  // The device's number.
  virtual uint32_t DeviceOf(uint32_t id) const = 0;
};

// Each holds the first `twin_count` twins of the fleet.  One thread.

// SQLite, in memory, statements prepared: a table of 14 columns with indexes
// for all that Q1 to Q11 ask for, or the twins' JSON text with the same indexes
// on expressions.  Q12 has none: nobody declares every index.
std::unique_ptr<QueryEngine> MakeSqliteColumns(uint32_t twin_count);
std::unique_ptr<QueryEngine> MakeSqliteJson(uint32_t twin_count);

// Reads the whole text for every question, as fast as it can be read.
std::unique_ptr<QueryEngine> MakeJsonScan(uint32_t twin_count);

// The limit: loops over arrays of codes that were made for these conditions,
// and nothing else: no parser, no plan, no locks, no writes.
std::unique_ptr<QueryEngine> MakeKernels(uint32_t twin_count);

}  // namespace muster

#endif  // BENCH_QUERY_ENGINE_H_
