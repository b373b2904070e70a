// How the simulated fleet is kept.
//
// A device is a record of 16 bytes and an entry in an index; what it does is
// LoopbackModel's.  Outcomes that take time wait in one bucket per tick of 1
// ms; stays of devices that come and go wait in a heap.  One call of the
// executor is outstanding for the next of either.
//
// Connections are reported by one thread at a time, in order, without a lock.
// Send() sees a device as connected from before it is reported connected until
// after it is reported disconnected.
#include "transport/loopback/loopback.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/fixed_array.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "transport/gate.h"
#include "transport/loopback/loopback_model.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(1);
// What nobody waits for: keeps sums of times finite.
constexpr absl::Duration kDelayMax = absl::Hours(24 * 365);
// Executions that are looked at, and outcomes that are reported, at a time.
constexpr size_t kChunk = 256;
constexpr size_t kChangesPerReport = 1024;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// The first tick at `delay` > 0 after `now` or later.
int64_t TickAfter(absl::Duration now, absl::Duration delay) {
  const absl::Duration at = now + std::min(delay, kDelayMax);
  return std::max(absl::Ceil(at, kTick) / kTick, now / kTick + 1);
}

// Copies of ids that stay where they are.
class IdArena {
 public:
  const char* Copy(absl::string_view id) {
    if (static_cast<size_t>(end_ - next_) < id.size()) {
      blocks_.push_back(std::make_unique<char[]>(kBlock));
      next_ = blocks_.back().get();
      end_ = next_ + kBlock;
    }
    std::memcpy(next_, id.data(), id.size());
    next_ += id.size();
    return next_ - id.size();
  }

 private:
  static constexpr size_t kBlock = 64 * 1024;
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* next_ = nullptr;
  char* end_ = nullptr;
};

struct Device {
  const char* id_data;
  uint32_t changes = 0;  // Connects and disconnects so far.
  uint8_t id_size;
  bool connected = false;  // The latest state, reported or queued.
  bool reachable = false;  // What Send() goes by.
  bool removed = false;

  absl::string_view id() const { return {id_data, id_size}; }
  bool regular() const { return reachable && !removed; }
};
static_assert(sizeof(Device) == 16);

struct DeviceIdOf {
  const std::vector<Device>* devices;
  absl::string_view operator()(uint32_t index) const {
    return (*devices)[index].id();
  }
  absl::string_view operator()(absl::string_view id) const { return id; }
};

struct DeviceHash : DeviceIdOf {
  using is_transparent = void;
  template <typename T>
  size_t operator()(const T& key) const {
    return absl::Hash<absl::string_view>()(DeviceIdOf::operator()(key));
  }
};

struct DeviceEq : DeviceIdOf {
  using is_transparent = void;
  template <typename T, typename U>
  bool operator()(const T& a, const U& b) const {
    return DeviceIdOf::operator()(a) == DeviceIdOf::operator()(b);
  }
};

// What one execution came to.
struct Entry {
  static constexpr uint32_t kConstantPayload =
      std::numeric_limits<uint32_t>::max();

  AttemptKey attempt;
  // Where the payload stands in the text that goes with the entry.
  uint32_t payload_begin = 0;
  uint32_t payload_size = 0;
  int32_t status = 0;
  OutcomeCode code = OutcomeCode::kAnswered;
  bool answers = true;  // False: only leaves the window when it is due.
};
static_assert(sizeof(Entry) == 24);

// The entries of one tick.
struct Bucket {
  std::vector<Entry> entries;
  std::string payloads;
};

void AppendPayloadTo(absl::string_view payload, std::string* payloads,
                     Entry* entry) {
  MUSTER_CHECK(payloads->size() + payload.size() < Entry::kConstantPayload);
  entry->payload_begin = static_cast<uint32_t>(payloads->size());
  entry->payload_size = static_cast<uint32_t>(payload.size());
  payloads->append(payload.data(), payload.size());
}

}  // namespace

class LoopbackTransport::Core
    : public std::enable_shared_from_this<LoopbackTransport::Core> {
 public:
  Core(const LoopbackOptions& options, Clock* clock, Executor* executor)
      : model_(options),
        clock_(*clock),
        executor_(*executor),
        index_(0, DeviceHash{{&devices_}}, DeviceEq{{&devices_}}),
        irregular_devices_(0, DeviceHash{{&devices_}}, DeviceEq{{&devices_}}) {
    const bool always_regular = model_.always_good_at_once() &&
                                !model_.has_placeholders() &&
                                options.answer_unknown && !options.record_calls;
    // 1 until Start().
    irregularities_.store(always_regular ? 1 : 2, std::memory_order_relaxed);
  }

  void Start(TransportSink* sink) ABSL_LOCKS_EXCLUDED(mutex_);
  size_t Send(const MethodBatch& batch) ABSL_LOCKS_EXCLUDED(mutex_);
  void NotifyDesired(absl::Span<const DesiredNotification> notifications)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);
  void AddDevices(absl::Span<const absl::string_view> ids,
                  std::optional<bool> connected) ABSL_LOCKS_EXCLUDED(mutex_);
  void RemoveDevice(absl::string_view id) ABSL_LOCKS_EXCLUDED(mutex_);
  void SetConnected(absl::string_view id, bool connected)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void SetHandler(absl::string_view method, LoopbackHandler handler)
      ABSL_LOCKS_EXCLUDED(mutex_);

  std::vector<LoopbackCallRecord> calls() const {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  std::vector<LoopbackNotificationRecord> notifications() const {
    absl::MutexLock lock(&mutex_);
    return notifications_;
  }
  int64_t in_flight() const {
    absl::MutexLock lock(&mutex_);
    return in_flight_;
  }

 private:
  using Buckets = std::map<int64_t, Bucket>;
  using DeviceIndex = absl::flat_hash_set<uint32_t, DeviceHash, DeviceEq>;

  struct Change {
    uint32_t device;
    bool connected;
  };

  // A stay that ends at `tick`, unless the device has changed before.
  struct Stay {
    int64_t tick;
    uint32_t device;
    uint32_t changes;

    friend bool operator<(const Stay& a, const Stay& b) {
      return a.tick > b.tick;  // The earliest is on top of a heap.
    }
  };

  enum class Reach : uint8_t { kReachable, kNotConnected, kNoSuchDevice };

  // Up to kChunk executions on their way through SendDrawn().
  struct Chunk {
    size_t count = 0;
    Reach reach[kChunk];
    Entry entries[kChunk];
    absl::Duration delays[kChunk];
    bool ran[kChunk];
    std::string payloads;
  };

  size_t SendAtOnce(const MethodBatch& batch);
  size_t SendDrawn(const MethodBatch& batch);
  size_t Reserve(size_t wanted) ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<const LoopbackHandler> FindReach(const MethodBatch& batch,
                                                   size_t first, Chunk* chunk)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Draw(const MethodCall& method, uint64_t method_hash, AttemptKey attempt,
            absl::string_view device_id, size_t i, Chunk* chunk) const;
  void Script(const LoopbackHandler& handler, const MethodCall& method,
              AttemptKey attempt, absl::string_view device_id, size_t i,
              Chunk* chunk) const;
  void Keep(const MethodBatch& batch, size_t first, const Chunk& chunk)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Report(absl::Span<const Entry> entries, absl::string_view payloads);

  void OnTick(int64_t tick) ABSL_LOCKS_EXCLUDED(mutex_);
  void Arm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TakeRoom(int64_t count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  uint32_t FindOrAdd(absl::string_view id, bool* added)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChangeTo(uint32_t device, bool connected)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginStay(uint32_t device) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetReach(uint32_t device, bool reachable, bool removed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportChanges() ABSL_LOCKS_EXCLUDED(mutex_);

  bool started() const {
    return sink_.load(std::memory_order_relaxed) != nullptr;
  }

  // Constant after construction.
  const LoopbackModel model_;
  Clock& clock_;
  Executor& executor_;

  // Internally synchronized.  Whoever calls the sink is inside.
  Gate gate_;
  // Set once.  Relaxed: those who use it have it from irregularities_, from the
  // mutex or from an executor's callback, all of which come after Start().
  std::atomic<TransportSink*> sink_{nullptr};
  // 0: Send() may answer everything at once without looking.  Counts what
  // stands against it: options, Start() still to come, devices, handlers.
  std::atomic<int64_t> irregularities_;

  // A leaf but for the executor: held across no call to the sink or a handler.
  mutable absl::Mutex mutex_;
  IdArena ids_ ABSL_GUARDED_BY(mutex_);
  std::vector<Device> devices_ ABSL_GUARDED_BY(mutex_);
  DeviceIndex index_ ABSL_GUARDED_BY(mutex_);
  // Those that are not just there and connected: all that Send() has to look
  // into if ids without a record answer too, and small enough for a cache.
  DeviceIndex irregular_devices_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::shared_ptr<const LoopbackHandler>>
      handlers_ ABSL_GUARDED_BY(mutex_);

  std::vector<Change> changes_ ABSL_GUARDED_BY(mutex_);  // To be reported.
  bool reporting_ ABSL_GUARDED_BY(mutex_) = false;

  Buckets buckets_ ABSL_GUARDED_BY(mutex_);
  std::vector<Buckets::node_type> spare_buckets_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stay> stays_ ABSL_GUARDED_BY(mutex_);  // A heap.
  int64_t armed_tick_ ABSL_GUARDED_BY(mutex_) = kNever;
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  bool starved_ ABSL_GUARDED_BY(mutex_) = false;  // A Send() took fewer.

  std::vector<LoopbackCallRecord> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<LoopbackNotificationRecord> notifications_
      ABSL_GUARDED_BY(mutex_);
};

// -------------------------------------------------------------------- sending

size_t LoopbackTransport::Core::Send(const MethodBatch& batch) {
  MUSTER_CHECK(batch.attempts.size() == batch.device_ids.size());
  const Gate::Visit visit(gate_);
  if (!visit) return 0;
  // Acquire: synchronizes-with the release in Start().
  if (irregularities_.load(std::memory_order_acquire) == 0) {
    return SendAtOnce(batch);
  }
  MUSTER_CHECK(started());
  return SendDrawn(batch);
}

size_t LoopbackTransport::Core::SendAtOnce(const MethodBatch& batch) {
  TransportSink* const sink = sink_.load(std::memory_order_relaxed);
  // Outcomes differ in their keys only.
  absl::FixedArray<Outcome, kChunk> outcomes(
      std::min(batch.attempts.size(), kChunk),
      Outcome{.attempt = {},
              .status = model_.options().response_status,
              .payload = model_.constant_payload()});
  for (size_t first = 0; first < batch.attempts.size(); first += kChunk) {
    const size_t count = std::min(batch.attempts.size() - first, kChunk);
    for (size_t i = 0; i < count; ++i) {
      outcomes[i].attempt = batch.attempts[first + i];
    }
    sink->OnOutcomes(absl::MakeConstSpan(outcomes.data(), count));
  }
  return batch.attempts.size();
}

size_t LoopbackTransport::Core::SendDrawn(const MethodBatch& batch) {
  const MethodCall& method = *batch.method;
  const uint64_t method_hash = model_.HashOf(method.name);
  Chunk chunk;
  size_t taken = 0;
  while (taken < batch.attempts.size()) {
    chunk.count = Reserve(std::min(batch.attempts.size() - taken, kChunk));
    if (chunk.count == 0) break;
    const std::shared_ptr<const LoopbackHandler> handler =
        FindReach(batch, taken, &chunk);
    chunk.payloads.clear();
    for (size_t i = 0; i < chunk.count; ++i) {
      Entry& entry = chunk.entries[i];
      const AttemptKey attempt = batch.attempts[taken + i];
      const absl::string_view device_id = batch.device_ids[taken + i];
      entry = {.attempt = attempt};
      chunk.delays[i] = absl::ZeroDuration();
      chunk.ran[i] = false;
      if (chunk.reach[i] == Reach::kNotConnected) {
        entry.code = OutcomeCode::kNotConnected;
      } else if (chunk.reach[i] == Reach::kNoSuchDevice) {
        entry.code = OutcomeCode::kNoSuchDevice;
      } else if (handler != nullptr) {
        Script(*handler, method, attempt, device_id, i, &chunk);
      } else {
        Draw(method, method_hash, attempt, device_id, i, &chunk);
      }
    }
    Keep(batch, taken, chunk);

    // Whatever took no time is reported here and now.
    int64_t at_once = 0;
    size_t reported = 0;
    for (size_t i = 0; i < chunk.count; ++i) {
      if (chunk.delays[i] > absl::ZeroDuration()) continue;
      ++at_once;
      if (chunk.entries[i].answers) {
        chunk.entries[reported++] = chunk.entries[i];
      }
    }
    Report(absl::MakeConstSpan(chunk.entries, reported), chunk.payloads);
    bool ready;
    {
      absl::MutexLock lock(&mutex_);
      ready = TakeRoom(at_once);
    }
    if (ready) {
      // Not from here: the Send() that took fewer may be further up the stack.
      executor_.Run([core = shared_from_this()] {
        const Gate::Visit visit(core->gate_);
        if (visit) core->sink_.load(std::memory_order_relaxed)->OnReady();
      });
    }
    taken += chunk.count;
  }
  return taken;
}

// Takes up to `wanted` places in the window and returns how many.
size_t LoopbackTransport::Core::Reserve(size_t wanted) {
  absl::MutexLock lock(&mutex_);
  const int64_t window = model_.options().send_window;
  int64_t places = static_cast<int64_t>(wanted);
  if (window > 0) {
    places = std::min(places, std::max<int64_t>(0, window - in_flight_));
    if (places == 0) starved_ = true;
  }
  in_flight_ += places;
  return static_cast<size_t>(places);
}

// Gives `count` places back; whether the sink has to hear that there is room.
bool LoopbackTransport::Core::TakeRoom(int64_t count) {
  in_flight_ -= count;
  if (count == 0 || !starved_) return false;
  starved_ = false;
  return true;
}

// Fills in chunk->reach and returns the method's handler, nullptr if none.
std::shared_ptr<const LoopbackHandler> LoopbackTransport::Core::FindReach(
    const MethodBatch& batch, size_t first, Chunk* chunk) {
  absl::MutexLock lock(&mutex_);
  const bool answer_unknown = model_.options().answer_unknown;
  const DeviceIndex& index = answer_unknown ? irregular_devices_ : index_;
  for (size_t i = 0; i < chunk->count; ++i) {
    chunk->reach[i] = Reach::kReachable;
    if (answer_unknown && index.empty()) continue;
    const auto it = index.find(batch.device_ids[first + i]);
    if (it == index.end()) {
      if (!answer_unknown) chunk->reach[i] = Reach::kNoSuchDevice;
    } else if (devices_[*it].removed) {
      chunk->reach[i] = Reach::kNoSuchDevice;
    } else if (!devices_[*it].reachable) {
      chunk->reach[i] = Reach::kNotConnected;
    }
  }
  if (handlers_.empty()) return nullptr;
  auto it = handlers_.find(batch.method->name);
  if (it == handlers_.end()) it = handlers_.find("");
  return it == handlers_.end() ? nullptr : it->second;
}

// What a device does by itself.
void LoopbackTransport::Core::Draw(const MethodCall& method,
                                   uint64_t method_hash, AttemptKey attempt,
                                   absl::string_view device_id, size_t i,
                                   Chunk* chunk) const {
  using Kind = LoopbackModel::Kind;
  const LoopbackOptions& options = model_.options();
  const uint64_t device_hash = model_.HashOf(device_id);
  Entry& entry = chunk->entries[i];
  const Kind kind = model_.KindOf(device_hash, method_hash);
  chunk->delays[i] =
      kind == Kind::kNoAnswer
          ? method.response_timeout
          : model_.LatencyOf(device_hash, method_hash, attempt.value);
  chunk->ran[i] = kind != Kind::kNoHandler && kind != Kind::kBusy;
  switch (kind) {
    case Kind::kGood:
      entry.status = options.response_status;
      if (model_.has_placeholders()) {
        std::string payload;
        model_.AppendPayload(device_id, method.name, method.payload, &payload);
        AppendPayloadTo(payload, &chunk->payloads, &entry);
      } else {
        entry.payload_begin = Entry::kConstantPayload;
      }
      return;
    case Kind::kErrorStatus:
      entry.status = options.error_status;
      return;
    case Kind::kNoAnswer:
      entry.answers = false;
      return;
    case Kind::kNoHandler:
      entry.code = OutcomeCode::kNoHandler;
      return;
    case Kind::kBadResponse:
      entry.code = OutcomeCode::kBadResponse;
      return;
    case Kind::kResponseTooLarge:
      entry.code = OutcomeCode::kResponseTooLarge;
      return;
    case Kind::kLinkLost:
      entry.code = OutcomeCode::kLinkLost;
      return;
    case Kind::kBusy:
      entry.code = OutcomeCode::kBusy;
      return;
  }
}

// What a test has it do.
void LoopbackTransport::Core::Script(const LoopbackHandler& handler,
                                     const MethodCall& method,
                                     AttemptKey attempt,
                                     absl::string_view device_id, size_t i,
                                     Chunk* chunk) const {
  const LoopbackReply reply = handler({.device_id = device_id,
                                       .method = method.name,
                                       .payload = method.payload,
                                       .attempt = attempt});
  Entry& entry = chunk->entries[i];
  chunk->delays[i] = reply.delay;
  chunk->ran[i] = true;
  if (!reply.code.has_value()) {
    entry.answers = false;
    chunk->delays[i] = method.response_timeout;
    return;
  }
  entry.code = *reply.code;
  if (entry.code != OutcomeCode::kAnswered) return;
  if (reply.payload.size() > kMethodPayloadSizeMax) {
    entry.code = OutcomeCode::kResponseTooLarge;
  } else if (!reply.payload.empty() && !ParseJson(reply.payload).ok()) {
    entry.code = OutcomeCode::kBadResponse;
  } else {
    entry.status = reply.status;
    AppendPayloadTo(reply.payload, &chunk->payloads, &entry);
  }
}

// Records the calls and puts what takes time into its buckets.
void LoopbackTransport::Core::Keep(const MethodBatch& batch, size_t first,
                                   const Chunk& chunk) {
  const bool record = model_.options().record_calls;
  bool delayed = false;
  for (size_t i = 0; i < chunk.count; ++i) {
    delayed = delayed || chunk.delays[i] > absl::ZeroDuration();
  }
  if (!record && !delayed) return;
  const absl::Time time = record ? clock_.Now() : absl::Time();
  const absl::Duration now = clock_.Monotonic();

  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; record && i < chunk.count; ++i) {
    if (!chunk.ran[i]) continue;
    calls_.push_back({.device_id = std::string(batch.device_ids[first + i]),
                      .method = batch.method->name,
                      .payload = batch.method->payload,
                      .attempt = batch.attempts[first + i],
                      .time = time});
  }
  if (!delayed) return;
  for (size_t i = 0; i < chunk.count; ++i) {
    if (chunk.delays[i] <= absl::ZeroDuration()) continue;
    const int64_t tick = TickAfter(now, chunk.delays[i]);
    auto it = buckets_.lower_bound(tick);
    if (it == buckets_.end() || it->first != tick) {
      if (spare_buckets_.empty()) {
        it = buckets_.emplace_hint(it, tick, Bucket());
      } else {
        Buckets::node_type node = std::move(spare_buckets_.back());
        spare_buckets_.pop_back();
        node.key() = tick;
        it = buckets_.insert(it, std::move(node));
      }
    }
    Entry entry = chunk.entries[i];
    if (entry.payload_size > 0) {
      AppendPayloadTo(absl::string_view(chunk.payloads)
                          .substr(entry.payload_begin, entry.payload_size),
                      &it->second.payloads, &entry);
    }
    it->second.entries.push_back(entry);
  }
  Arm();
}

void LoopbackTransport::Core::Report(absl::Span<const Entry> entries,
                                     absl::string_view payloads) {
  TransportSink* const sink = sink_.load(std::memory_order_relaxed);
  Outcome outcomes[kChunk];
  size_t count = 0;
  for (const Entry& entry : entries) {
    if (entry.answers) {
      outcomes[count++] = {
          .attempt = entry.attempt,
          .code = entry.code,
          .status = entry.status,
          .payload =
              entry.payload_begin == Entry::kConstantPayload
                  ? model_.constant_payload()
                  : payloads.substr(entry.payload_begin, entry.payload_size)};
    }
    if (count == kChunk) {
      sink->OnOutcomes(absl::MakeConstSpan(outcomes, count));
      count = 0;
    }
  }
  if (count > 0) sink->OnOutcomes(absl::MakeConstSpan(outcomes, count));
}

void LoopbackTransport::Core::NotifyDesired(
    absl::Span<const DesiredNotification> notifications) {
  const Gate::Visit visit(gate_);
  if (!visit || !model_.options().record_calls) return;
  const absl::Time time = clock_.Now();
  absl::MutexLock lock(&mutex_);
  for (const DesiredNotification& notification : notifications) {
    const auto it = index_.find(notification.device_id);
    if (it == index_.end() ? !model_.options().answer_unknown
                           : !devices_[*it].regular()) {
      continue;
    }
    notifications_.push_back({.device_id = std::string(notification.device_id),
                              .patch = std::string(notification.patch),
                              .version = notification.version,
                              .time = time});
  }
}

// ----------------------------------------------------------------------- time

// Makes sure that the executor calls when the next thing is due.
void LoopbackTransport::Core::Arm() {
  int64_t next = kNever;
  if (!buckets_.empty()) next = buckets_.begin()->first;
  if (!stays_.empty()) next = std::min(next, stays_.front().tick);
  if (next >= armed_tick_) return;
  // A call for a later tick may be outstanding: it will find nothing to do.
  armed_tick_ = next;
  executor_.RunAt(next * kTick,
                  [core = shared_from_this(), next] { core->OnTick(next); });
}

void LoopbackTransport::Core::OnTick(int64_t tick) {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  std::vector<Buckets::node_type> due;
  {
    absl::MutexLock lock(&mutex_);
    if (armed_tick_ != tick) return;
    armed_tick_ = kNever;
    const int64_t now = std::max(tick, clock_.Monotonic() / kTick);
    while (!buckets_.empty() && buckets_.begin()->first <= now) {
      due.push_back(buckets_.extract(buckets_.begin()));
    }
    while (!stays_.empty() && stays_.front().tick <= now) {
      const Stay stay = stays_.front();
      std::pop_heap(stays_.begin(), stays_.end());
      stays_.pop_back();
      const Device& device = devices_[stay.device];
      if (!device.removed && device.changes == stay.changes) {
        ChangeTo(stay.device, !device.connected);
      }
    }
    Arm();
  }
  ReportChanges();

  int64_t count = 0;
  for (const Buckets::node_type& node : due) {
    Report(node.mapped().entries, node.mapped().payloads);
    count += static_cast<int64_t>(node.mapped().entries.size());
  }
  bool ready;
  {
    absl::MutexLock lock(&mutex_);
    ready = TakeRoom(count);
    for (Buckets::node_type& node : due) {
      node.mapped().entries.clear();
      node.mapped().payloads.clear();
      spare_buckets_.push_back(std::move(node));
    }
  }
  if (ready) sink_.load(std::memory_order_relaxed)->OnReady();
}

// -------------------------------------------------------------------- devices

uint32_t LoopbackTransport::Core::FindOrAdd(absl::string_view id, bool* added) {
  MUSTER_CHECK(!id.empty() && id.size() <= kDeviceIdLengthMax);
  const auto it = index_.find(id);
  *added = it == index_.end();
  if (!*added) return *it;
  Device device{.id_data = ids_.Copy(id),
                .id_size = static_cast<uint8_t>(id.size())};
  // It was reachable, or not, before it had a record.
  device.reachable = model_.options().answer_unknown;
  const uint32_t index = static_cast<uint32_t>(devices_.size());
  devices_.push_back(device);
  index_.insert(index);
  if (!device.regular()) {
    irregular_devices_.insert(index);
    irregularities_.fetch_add(1, std::memory_order_relaxed);
  }
  return index;
}

// The device connects or disconnects now; the sink is to hear of it.
void LoopbackTransport::Core::ChangeTo(uint32_t index, bool connected) {
  Device& device = devices_[index];
  device.connected = connected;
  ++device.changes;
  if (started()) {
    changes_.push_back({index, connected});
    BeginStay(index);
  } else {
    SetReach(index, connected, device.removed);
  }
}

void LoopbackTransport::Core::BeginStay(uint32_t index) {
  const Device& device = devices_[index];
  if (device.removed) return;
  const absl::Duration stay = model_.StayOf(model_.HashOf(device.id()),
                                            device.changes, device.connected);
  if (stay == absl::InfiniteDuration()) return;
  stays_.push_back({.tick = TickAfter(clock_.Monotonic(), stay),
                    .device = index,
                    .changes = device.changes});
  std::push_heap(stays_.begin(), stays_.end());
  Arm();
}

void LoopbackTransport::Core::SetReach(uint32_t index, bool reachable,
                                       bool removed) {
  Device& device = devices_[index];
  const bool was_regular = device.regular();
  device.reachable = reachable;
  device.removed = removed;
  if (device.regular() == was_regular) return;
  if (was_regular) {
    irregular_devices_.insert(index);
  } else {
    irregular_devices_.erase(index);
  }
  // Relaxed: a Send() that runs meanwhile may see the device as it was.
  irregularities_.fetch_add(was_regular ? 1 : -1, std::memory_order_relaxed);
}

// Reports what is queued, unless another thread, or a call further up the
// stack, is at it: then that one does.
void LoopbackTransport::Core::ReportChanges() {
  std::vector<Change> batch;
  std::vector<ConnectionChange> report;
  {
    absl::MutexLock lock(&mutex_);
    if (reporting_ || !started() || changes_.empty()) return;
    reporting_ = true;
  }
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      for (const Change& change : batch) {
        SetReach(change.device, change.connected,
                 devices_[change.device].removed);
      }
      batch.clear();
      report.clear();
      if (changes_.empty()) {
        reporting_ = false;
        return;
      }
      batch.swap(changes_);
      for (const Change& change : batch) {
        const Device& device = devices_[change.device];
        if (change.connected) SetReach(change.device, true, device.removed);
        report.push_back({device.id(), change.connected});
      }
    }
    TransportSink* const sink = sink_.load(std::memory_order_relaxed);
    for (size_t i = 0; i < report.size(); i += kChangesPerReport) {
      sink->OnConnections(
          absl::MakeConstSpan(report).subspan(i, kChangesPerReport), {});
    }
  }
}

void LoopbackTransport::Core::Start(TransportSink* sink) {
  MUSTER_CHECK(sink != nullptr);
  const Gate::Visit visit(gate_);
  if (!visit) return;
  {
    absl::MutexLock lock(&mutex_);
    MUSTER_CHECK(!started());
    sink_.store(sink, std::memory_order_relaxed);
    // Those that are away first: nothing is called before it is reported.
    for (const bool connected : {false, true}) {
      for (uint32_t i = 0; i < devices_.size(); ++i) {
        if (devices_[i].removed || devices_[i].connected != connected) continue;
        changes_.push_back({i, connected});
        BeginStay(i);
      }
    }
  }
  // Release: synchronizes-with the acquire in Send().
  irregularities_.fetch_sub(1, std::memory_order_release);
  ReportChanges();
}

void LoopbackTransport::Core::AddDevices(
    absl::Span<const absl::string_view> ids, std::optional<bool> connected) {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  {
    absl::MutexLock lock(&mutex_);
    devices_.reserve(
        std::max(devices_.capacity(), devices_.size() + ids.size()));
    index_.reserve(index_.size() + ids.size());
  }
  for (size_t first = 0; first < ids.size(); first += kChangesPerReport) {
    {
      absl::MutexLock lock(&mutex_);
      for (absl::string_view id : ids.subspan(first, kChangesPerReport)) {
        bool added;
        const uint32_t index = FindOrAdd(id, &added);
        const Device& device = devices_[index];
        if (!added && !device.removed) continue;
        SetReach(index, device.reachable, /*removed=*/false);
        ChangeTo(index, connected.value_or(
                            !model_.IsOfflineAtFirst(model_.HashOf(id))));
      }
    }
    ReportChanges();
  }
}

void LoopbackTransport::Core::RemoveDevice(absl::string_view id) {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  {
    absl::MutexLock lock(&mutex_);
    bool added;
    const uint32_t index = FindOrAdd(id, &added);
    Device& device = devices_[index];
    if (device.removed) return;
    SetReach(index, device.reachable, /*removed=*/true);
    if (device.connected) ChangeTo(index, false);
  }
  ReportChanges();
}

void LoopbackTransport::Core::SetConnected(absl::string_view id,
                                           bool connected) {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  {
    absl::MutexLock lock(&mutex_);
    bool added;
    const uint32_t index = FindOrAdd(id, &added);
    Device& device = devices_[index];
    if (!added && !device.removed && device.connected == connected) return;
    SetReach(index, device.reachable, /*removed=*/false);
    ChangeTo(index, connected);
  }
  ReportChanges();
}

void LoopbackTransport::Core::SetHandler(absl::string_view method,
                                         LoopbackHandler handler) {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  std::shared_ptr<const LoopbackHandler> shared;
  if (handler) {
    shared = std::make_shared<const LoopbackHandler>(std::move(handler));
  }
  absl::MutexLock lock(&mutex_);  // Ends before `shared`: destroys no handler.
  std::shared_ptr<const LoopbackHandler>& slot = handlers_[method];
  // Relaxed: a Send() that runs meanwhile may go by the old handler.
  irregularities_.fetch_add((shared != nullptr) - (slot != nullptr),
                            std::memory_order_relaxed);
  slot.swap(shared);
  if (slot == nullptr) handlers_.erase(method);
}

void LoopbackTransport::Core::Shutdown() {
  gate_.Close();
  // Nobody is inside any more.  Callbacks that the executor holds keep this
  // object, so it gives back what is large, and the handlers, now.
  Buckets buckets;
  std::vector<Buckets::node_type> spare_buckets;
  std::vector<Stay> stays;
  decltype(handlers_) handlers;
  absl::MutexLock lock(&mutex_);
  buckets_.swap(buckets);
  spare_buckets_.swap(spare_buckets);
  stays_.swap(stays);
  handlers_.swap(handlers);
  in_flight_ = 0;
}

// ------------------------------------------------------------------ interface

absl::StatusOr<std::unique_ptr<LoopbackTransport>> LoopbackTransport::Create(
    const LoopbackOptions& options, Clock* clock, Executor* executor) {
  MUSTER_CHECK(clock != nullptr && executor != nullptr);
  if (absl::Status s = ValidateLoopbackOptions(options); !s.ok()) return s;
  return std::unique_ptr<LoopbackTransport>(
      new LoopbackTransport(std::make_shared<Core>(options, clock, executor)));
}

LoopbackTransport::LoopbackTransport(std::shared_ptr<Core> core)
    : core_(std::move(core)) {}

LoopbackTransport::~LoopbackTransport() { core_->Shutdown(); }

void LoopbackTransport::Start(TransportSink* sink) { core_->Start(sink); }

size_t LoopbackTransport::Send(const MethodBatch& batch) {
  return core_->Send(batch);
}

void LoopbackTransport::NotifyDesired(
    absl::Span<const DesiredNotification> notifications) {
  core_->NotifyDesired(notifications);
}

void LoopbackTransport::Shutdown() { core_->Shutdown(); }

void LoopbackTransport::AddDevices(
    absl::Span<const absl::string_view> device_ids,
    std::optional<bool> connected) {
  core_->AddDevices(device_ids, connected);
}

void LoopbackTransport::RemoveDevice(absl::string_view device_id) {
  core_->RemoveDevice(device_id);
}

void LoopbackTransport::SetConnected(absl::string_view device_id,
                                     bool connected) {
  core_->SetConnected(device_id, connected);
}

void LoopbackTransport::SetHandler(absl::string_view method,
                                   LoopbackHandler handler) {
  core_->SetHandler(method, std::move(handler));
}

std::vector<LoopbackCallRecord> LoopbackTransport::calls() const {
  return core_->calls();
}

std::vector<LoopbackNotificationRecord> LoopbackTransport::notifications()
    const {
  return core_->notifications();
}

int64_t LoopbackTransport::in_flight() const { return core_->in_flight(); }

}  // namespace muster
