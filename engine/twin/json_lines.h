// JsonLinesLoader: many twins at once, one JSON document on each line, all of
// them or none.
//
//   JsonLinesLoader loader(&index, {});
//   for (const LineChunk& chunk : CutLines(text, 4 << 20)) {   // By any number
//     loader.Add(chunk.lines, chunk.first_line_number);        // of threads.
//   }
//   auto loaded = loader.Commit(clock.Now());
//
// Add() parses, checks and puts the twins into shards of its own; Commit()
// hands those shards to the index, and cannot fail half way.  So a broken line
// 500,000 leaves the index as it was.  Between the two the twins take the
// memory that they will take in the index, and 16 bytes each.
//
// Lines end with LF or CR LF; the last may have no end.  Empty lines count but
// mean nothing, and a byte order mark may stand before line 1.
#ifndef ENGINE_TWIN_JSON_LINES_H_
#define ENGINE_TWIN_JSON_LINES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/twin/id_table.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/shard.h"
#include "engine/twin/twin_index.h"

namespace muster {

// Bytes of a line without its end.  No twin needs more: its sections have at
// most 72 KB by their own count.
inline constexpr size_t kJsonLineSizeMax = 1024 * 1024;

struct LineChunk {
  absl::string_view lines;
  int64_t first_line_number = 1;
};

// Cuts `text` at line ends into chunks of `chunk_size` bytes or somewhat more.
// One pass over the text.  REQUIRES: chunk_size is at least 1.
std::vector<LineChunk> CutLines(absl::string_view text, size_t chunk_size);

class JsonLinesLoader {
 public:
  struct Options {
    // Bad lines are left out and counted, instead of making Commit() fail.
    bool skip_bad_lines = false;
    // Messages of skipped lines to keep, those of the lowest lines; at least 0.
    size_t messages_max = 10;
  };

  struct Loaded {
    int64_t twin_count = 0;     // Put into the index.
    int64_t skipped_count = 0;  // Bad lines; 0 without skip_bad_lines.
    // "line 7: tags.floor: ...", in ascending order of lines.
    std::vector<std::string> messages;
  };

  // `*index` must outlive the loader.
  JsonLinesLoader(TwinIndex* index, const Options& options);

  JsonLinesLoader(const JsonLinesLoader&) = delete;
  JsonLinesLoader& operator=(const JsonLinesLoader&) = delete;

  // Parses and checks whole lines, of which the first has this number in the
  // whole (from 1).  Keeps no reference.  Thread-safe: several threads may each
  // take a chunk of the text, in any order.  About 4 us a twin.
  // REQUIRES: Commit() has not been called.
  void Add(absl::string_view lines, int64_t first_line_number);

  // Puts in every twin that was added, as TwinIndex::Upsert() would: a twin
  // that the index has already is replaced.  Others may use the index meanwhile
  // and see twins appear shard by shard.  Takes about 0.1 us a twin that is
  // new, 10 us one that is not, and holds one partition's lock at a time.  To
  // be called once, after the last Add() has returned.
  //
  // On an error nothing was put in.  What is wrong is said of the lowest bad
  // line: "line 500000: tags.location.floor: ..."
  //   IotHubFormatError  a line is no JSON ("at column ...")
  //   ArgumentNull, ArgumentInvalid, MessageTooLarge
  //                      a line is no twin; a line is over kJsonLineSizeMax; a
  //                      deviceId occurs a second time (both lines are named;
  //                      the later one is the bad one, and the one skipped)
  //   RESOURCE_EXHAUSTED the twins together would exceed twin_count_max
  absl::StatusOr<Loaded> Commit(absl::Time now);

 private:
  // What a document did not say, which counts only where the index has the twin
  // already: see Shard::Overwrite().
  enum Missing : uint8_t {
    kEtag = 1,
    kVersion = 2,
    kDesiredVersion = 4,
    kReportedVersion = 8,
    kConnection = 16,
  };
  // What is known of a staged row beside the twin.
  struct Origin {
    int64_t line = 0;
    uint8_t missing = 0;
  };
  // A partition's twins, in shards that only this loader knows.
  struct Staged {
    absl::Mutex mutex;
    std::vector<std::unique_ptr<Shard>> shards ABSL_GUARDED_BY(mutex);
    std::vector<std::vector<Origin>> origins ABSL_GUARDED_BY(mutex);  // By row.
    std::vector<bool> compacted ABSL_GUARDED_BY(mutex);
    IdTable ids ABSL_GUARDED_BY(mutex);
    int64_t twin_count ABSL_GUARDED_BY(mutex) = 0;
  };
  // A bad line: what is wrong, or whose id stands on another line already.
  struct Refusal {
    absl::Status status;
    std::string repeated_id;
  };
  struct Parsed {
    uint64_t hash;
    int64_t line;
    ParsedTwin twin;  // Of a document that the caller keeps.
  };

  // Remembers a bad line.
  void Refuse(int64_t line, Refusal refusal);
  void Stage(Staged& staged, const std::vector<Parsed>& twins);
  // How many of a partition's staged twins the index has not.
  int64_t CountNew(int partition);
  // Puts a partition's staged twins into the index; returns how many were new.
  int64_t CommitPartition(int partition, absl::Time now);

  TwinIndex& index_;
  const Options options_;

  // The lowest bad line so far, without skip_bad_lines: what comes behind it
  // does not matter any more.
  std::atomic<int64_t> bad_line_{INT64_MAX};

  const std::unique_ptr<Staged[]> staged_;  // By partition.

  absl::Mutex mutex_;
  int64_t refused_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // By line: the lowest ones only, but at least one.
  std::map<int64_t, Refusal> refused_ ABSL_GUARDED_BY(mutex_);
  bool committed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // ENGINE_TWIN_JSON_LINES_H_
