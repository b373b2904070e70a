// The twin index on the benchmark fleet: loading, asking, patching.
#ifndef BENCH_QUERY_OURS_H_
#define BENCH_QUERY_OURS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "bench/query_engine.h"
#include "engine/query/condition.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/twin_index.h"

namespace muster {

// How long it took to load a fleet from JSON lines.
struct LoadTime {
  absl::Duration add;  // Parsing and checking, on two threads.
  absl::Duration commit;
  absl::Duration cpu;  // Of both, all threads together.
};

class Ours : public QueryEngine {
 public:
  // Loads the first `twin_count` twins through JsonLinesLoader.  The text is
  // made as it goes, outside of the time that is measured.
  explicit Ours(uint32_t twin_count);

  const char* name() const override { return "ours"; }
  int64_t Count(int q) override;
  // An id is the shard's number and the row's.
  int64_t Enumerate(int q, uint32_t* ids) override;
  uint32_t DeviceOf(uint32_t id) const override;

  // Over half of the shards: part 0 or 1, each for a thread of its own.
  int64_t CountPart(int q, int part) const;

  // Calls fn(shard, rows that match) for each shard that may have some.
  void Ask(const Condition& condition,
           absl::FunctionRef<void(int, const RowBitmap&)> fn) const;

  TwinIndex& index() { return *index_; }
  const LoadTime& load_time() const { return load_time_; }

 private:
  std::unique_ptr<TwinIndex> index_;
  LoadTime load_time_;
  std::vector<Condition> conditions_;
};

}  // namespace muster

#endif  // BENCH_QUERY_OURS_H_
