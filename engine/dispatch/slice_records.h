// SliceRecords: a slice as journal records, and back.
#ifndef ENGINE_DISPATCH_SLICE_RECORDS_H_
#define ENGINE_DISPATCH_SLICE_RECORDS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/dispatch/slice.h"
#include "engine/journal/record.h"

namespace muster {

class SliceRecords {
 public:
  // Appends what makes a new slice with the same targets one like `slice`: at
  // most a record per result and per instant.  Waiting ranks come out ready.
  static void Append(uint64_t job, uint32_t number, uint64_t sequence,
                     const Slice& slice, std::string* out);

  // Does to a slice what the record tells.  DATA_LOSS if it cannot have been
  // written for this slice in this state.
  static absl::Status Apply(const DispatchedRecord& record, Slice* slice);
  static absl::Status Apply(const ReturnedRecord& record, Slice* slice);
  static absl::Status Apply(const ResultRecord& record, Slice* slice);
  static absl::Status Apply(const FinishedRecord& record, Slice* slice);
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_SLICE_RECORDS_H_
