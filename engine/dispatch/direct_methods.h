// DirectMethods: methods that somebody invokes on one device, outside of any
// job (contract 7).
//
// A call looks its device up and is then in one place at a time:
//
//   place     until                        then
//   waiting   its row changes              looks again
//             the connect timeout          looks again, or DeviceNotOnline
//   sent      an outcome                   the answer
//             NotConnected: it did not run looks again
//             the response timeout         GatewayTimeout
//   blocked   OnReady()                    looks again
//             the response timeout         ThrottlingException
//
// A call's time to answer begins when its device is found connected, and goes
// on while the transport has no room, so that nobody waits for longer than both
// timeouts together.  What was blocked goes out with the time that is left.
//
// Once the transport drains, a call that would be sent, or wait, is answered
// ServiceUnavailable.
//
// Attempts are named as those of a job with the number 0, which no job has.
// Nothing is journaled.  Calls begin where an engine over the same journal has
// not been lately: a late outcome of a call that a restart has ended is not
// taken for one of another.
//
// Whatever happens is put on a list, and workers do what follows from it: they
// look devices up, call the transport, and answer.  So a transport may hold
// what it likes while it reports.  (The first look is the caller's own.)
#ifndef ENGINE_DISPATCH_DIRECT_METHODS_H_
#define ENGINE_DISPATCH_DIRECT_METHODS_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/dispatch/job_state.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/workers.h"
#include "engine/transport.h"
#include "engine/twin/shard.h"
#include "engine/twin/twin_index.h"

namespace muster {

// What a device has answered to a direct method.
struct MethodResult {
  int32_t status = 0;
  std::string payload = "null";  // JSON text.
};
using MethodCallback =
    absl::AnyInvocable<void(absl::StatusOr<MethodResult>) &&>;

struct DirectMethodStats {
  int64_t under_way = 0;
  // Calls that were answered: by the device, or with an error.
  int64_t succeeded = 0;
  std::map<ErrorCode, int64_t> failed;
};

// Thread-safe.  Its mutex comes behind that of any shard.
class DirectMethods {
 public:
  struct Options {
    // Not owned.
    Clock* clock = nullptr;
    Transport* transport = nullptr;
    TwinIndex* index = nullptr;
    Workers* workers = nullptr;
    // What jobs have in flight on the shard's devices counts, too.
    std::function<ShardState&(const Shard&)> state_of;
    JobParseOptions parse;
    uint64_t epoch = 0;  // Another one for each engine over a journal.
  };

  explicit DirectMethods(Options options);
  DirectMethods(const DirectMethods&) = delete;
  DirectMethods& operator=(const DirectMethods&) = delete;

  // Engine::InvokeMethod().  REQUIRES: the workers do not stop meanwhile.
  void Invoke(absl::string_view device_id, const MethodAction& action,
              MethodCallback done);

  // The transport's reports: outcomes of attempts with the job number 0.
  // Returns how many nobody waited for.
  int64_t OnOutcomes(absl::Span<const Outcome> outcomes);
  void OnReady();
  // The row's device has come, or was changed otherwise.  One load if no call
  // waits for any device.
  void OnRowChanged(const Shard& shard, int row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

  // For a WorkSource: some of what has happened; true if there was anything.
  // Two loads if not.
  bool RunSome(absl::Duration now);
  bool HasWork() const { return work_.load() > 0; }
  absl::Duration NextDue() const;

  // Answers every call that is still there: with what its device has said, with
  // GatewayTimeout if it may have run, else ServiceUnavailable.  Once: when the
  // workers have stopped, and the transport reports no more.
  void AnswerAll();

  DirectMethodStats Stats() const;

 private:
  enum class Place : uint8_t {
    kHeld,     // Of a thread, or among the events.
    kWaiting,  // For its row to change.
    kSent,     // For an outcome.
    kBlocked,  // For the transport's room.
  };

  struct Call {
    // Constant.
    uint32_t id = 0;
    std::string device_id;
    std::shared_ptr<const MethodCall> method;
    absl::Duration connect_by;  // Until when it waits for its device.

    // Of the thread that holds it.
    MethodCallback done;
    bool came_back = false;  // The last attempt was NotConnected.

    // Guarded by mutex_.
    Place place = Place::kHeld;
    uint8_t attempt = 0;
    absl::Duration answer_by = absl::InfiniteDuration();
    absl::Duration due = absl::InfiniteDuration();  // In deadlines_, if finite.
    int shard = -1;  // Of the row that it waits for, or counts in flight at.
    int row = -1;
    bool counts = false;          // As in flight on its device.
    uint64_t blocked_number = 0;  // In blocked_.
  };
  using CallPtr = std::shared_ptr<Call>;
  using Result = absl::StatusOr<MethodResult>;

  // What goes to the transport, and the row that counts it.
  struct Attempt {
    AttemptKey key;
    uint64_t link;
    int shard;
    int row;
    absl::Duration time_left;  // For the answer.
  };

  // A call to look at, or to answer.
  struct Event {
    CallPtr call;
    std::optional<Result> result;
  };

  static constexpr int kIdBits = 30;  // Of an AttemptKey: slice and rank.
  static AttemptKey KeyOf(const Call& call);
  static uint32_t IdOf(AttemptKey key);

  // The rest is called without locks, by whoever holds the call.

  // Looks its device up, and sends the call or lets it wait, or answers it.
  void Look(const CallPtr& call);
  // OK: `*attempt` has to be sent or, if it is not set, the call waits.  Else:
  // the answer.
  absl::Status FindDevice(Call& call, std::optional<Attempt>* attempt);
  void Send(const CallPtr& call, const Attempt& attempt);
  void Answer(const CallPtr& call, Result result);
  // It is in flight on its device no more.
  void Discount(Call& call);

  // REQUIRES: it is under way.
  const CallPtr& Find(uint32_t id) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Out of where it waits.
  void Hold(Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetDue(Call& call, absl::Duration due)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Its time is over.
  void Expire(const CallPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool offering() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !blocked_.empty() && blocked_.begin()->first < offer_end_;
  }
  // Publishes what RunSome() would find.
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  Clock& clock_;
  Transport& transport_;
  TwinIndex& index_;
  Workers& workers_;
  const bool wants_device_ids_;  // The transport's word.

  std::atomic<uint64_t> ready_epoch_{0};  // Grows with each OnReady().
  std::atomic<int64_t> work_{0};          // Events, and blocked ones to offer.
  std::atomic<int64_t> next_due_ns_{INT64_MAX};
  // Grows under the lock of the shard that is waited for.
  std::atomic<int64_t> waiting_count_{0};

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint32_t, CallPtr> calls_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_id_ ABSL_GUARDED_BY(mutex_);
  // Of payloads: of calls, and of answers among the events.
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t answer_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
  absl::btree_set<std::pair<absl::Duration, uint32_t>> deadlines_
      ABSL_GUARDED_BY(mutex_);
  // By shard, row, id.
  absl::btree_set<std::tuple<int, int, uint32_t>> waiting_
      ABSL_GUARDED_BY(mutex_);
  // By the order in which they were refused.
  absl::btree_map<uint64_t, CallPtr> blocked_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_blocked_number_ ABSL_GUARDED_BY(mutex_) = 0;
  // Those before it have to be offered once more, all of them: the room may be
  // that of the last one's device, and nobody says so a second time.
  uint64_t offer_end_ ABSL_GUARDED_BY(mutex_) = 0;
  DirectMethodStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_DIRECT_METHODS_H_
