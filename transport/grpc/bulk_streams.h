// BulkStreams: how many streams may carry many twins at a time.  Each holds a
// few megabytes while it is at work.
#ifndef TRANSPORT_GRPC_BULK_STREAMS_H_
#define TRANSPORT_GRPC_BULK_STREAMS_H_

#include <atomic>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"

namespace muster {

// Thread-safe.
class BulkStreams {
 public:
  explicit BulkStreams(int max) : max_(max) {}

  // A stream's place; given back when it is destroyed.
  class Place {
   public:
    Place(Place&& other) noexcept
        : streams_(std::exchange(other.streams_, nullptr)) {}
    Place& operator=(Place&&) = delete;
    ~Place() {
      if (streams_ == nullptr) return;
      streams_->taken_.fetch_sub(1, std::memory_order_relaxed);
    }

   private:
    friend class BulkStreams;
    explicit Place(BulkStreams* streams) : streams_(streams) {}
    BulkStreams* streams_;
  };

  // ThrottlingException if there is none.
  absl::StatusOr<Place> Take() {
    // Relaxed: the number stands for itself.
    if (taken_.fetch_add(1, std::memory_order_relaxed) >= max_) {
      taken_.fetch_sub(1, std::memory_order_relaxed);
      return MakeError(
          ErrorCode::kThrottlingException,
          absl::StrCat("there are ", max_,
                       " streams under way that import or list twins, which "
                       "is the most at a time"));
    }
    return Place(this);
  }

 private:
  const int max_;
  std::atomic<int> taken_{0};
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_BULK_STREAMS_H_
