// Notifier: tells devices of new desired properties, in order, and the
// transport of devices that are no more.
//
// Writers add notifications in the order of the versions; one callback at a
// time per partition takes them to the transport.  So the order holds although
// the transport is called with no lock held and by no writer.
#ifndef ENGINE_DISPATCH_NOTIFIER_H_
#define ENGINE_DISPATCH_NOTIFIER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/schedule/executor.h"
#include "engine/transport.h"

namespace muster {

// Thread-safe.  Owned by a shared_ptr: callbacks on the executor outlive
// nobody.
class Notifier : public std::enable_shared_from_this<Notifier> {
 public:
  // `*executor` and `*transport` must outlive Stop().
  Notifier(int partition_count, Executor* executor, Transport* transport);

  // A patch is shared by all devices that get it.
  struct Notification {
    std::string device_id;  // Empty unless the transport wants ids.
    uint64_t link = 0;      // Of the device's connection.
    std::shared_ptr<const std::string> patch;  // JSON text.
    int64_t version = 0;
  };

  // Queues; never calls the transport itself.
  void Add(int partition, std::vector<Notification> notifications);
  // The same for the connection of a device whose twin was erased; behind what
  // the device has been told.
  void AddErased(int partition, uint64_t link);

  // Drops what has not been told, and returns when the transport is called no
  // more.
  void Stop();

  // Whether notifications have to name the device.
  bool wants_device_ids() const { return transport_->wants_device_ids(); }

 private:
  struct Partition {
    absl::Mutex mutex;
    std::vector<Notification> queue ABSL_GUARDED_BY(mutex);
    std::vector<uint64_t> erased ABSL_GUARDED_BY(mutex);  // Links.
    bool scheduled ABSL_GUARDED_BY(mutex) = false;
    bool delivering ABSL_GUARDED_BY(mutex) = false;
    bool stopped ABSL_GUARDED_BY(mutex) = false;
  };

  // Has the executor call Deliver(); of whoever has set `scheduled`.
  void Schedule(int partition);
  void Deliver(int partition);

  Executor* const executor_;
  Transport* const transport_;
  std::vector<std::unique_ptr<Partition>> partitions_;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_NOTIFIER_H_
