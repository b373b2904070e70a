#include "server/simulated_gateway.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

// Calls of one range at most (gateway.h).
constexpr uint64_t kRangeCallsMax = 1024;
constexpr size_t kDevicesPerCall = 4096;
constexpr absl::string_view kIdPrefix = "dev-";

std::string IdOfRow(uint32_t row) {
  return absl::StrFormat("%s%08d", kIdPrefix, row);
}

uint32_t RowOfId(absl::string_view id) {
  uint32_t row = 0;
  MUSTER_CHECK(absl::SimpleAtoi(id.substr(kIdPrefix.size()), &row));
  return row;
}

bool SameAnswer(const Outcome& a, const Outcome& b) {
  return a.code == b.code && a.status == b.status && a.payload == b.payload;
}

}  // namespace

// Between the gateway, whose calls it takes, and the loopback transport, whose
// outcomes it takes.  A device's token is its row.
class SimulatedGateway::Bridge : public GatewayHandler, public TransportSink {
 public:
  explicit Bridge(Clock* clock) : clock_(*clock) {}

  absl::Status Start(const SimulatedGatewayOptions& options) {
    absl::StatusOr<std::unique_ptr<LoopbackTransport>> devices =
        LoopbackTransport::Create(options.devices, &clock_, options.executor);
    if (!devices.ok()) return devices.status();
    devices_ = *std::move(devices);
    GatewayOptions gateway_options;
    gateway_options.name = options.name;
    gateway_options.work_credit = options.work_credit;
    gateway_options.devices_max = std::max<uint32_t>(options.device_count, 1);
    gateway_options.clock = &clock_;
    absl::StatusOr<std::unique_ptr<Gateway>> gateway =
        options.listen.empty()
            ? Gateway::Connect(options.connect, gateway_options, this)
            : Gateway::Listen({.address = options.listen}, gateway_options,
                              this);
    if (!gateway.ok()) return gateway.status();
    gateway_ = *std::move(gateway);
    // From here on devices connect, and calls may come.
    devices_->Start(this);
    const uint32_t end = options.first_row + options.device_count;
    for (uint32_t row = options.first_row; row < end;) {
      std::vector<std::string> ids;
      for (; row < end && ids.size() < kDevicesPerCall; ++row) {
        ids.push_back(IdOfRow(row));
      }
      devices_->AddDevices(
          std::vector<absl::string_view>(ids.begin(), ids.end()));
    }
    return absl::OkStatus();
  }

  void Stop() {
    // First the calls, then what becomes of them.
    if (gateway_ != nullptr) gateway_->Stop();
    if (devices_ != nullptr) devices_->Shutdown();
  }

  int port() const { return gateway_->port(); }
  GatewayStats Stats() const { return gateway_->Stats(); }

  absl::Status StreamError() const {
    absl::MutexLock lock(&mutex_);
    return stream_error_;
  }
  absl::Status RefusalError() const {
    absl::MutexLock lock(&mutex_);
    return refusal_error_;
  }

  // GatewayHandler.
  void OnMethods(const GatewayMethods& calls) override {
    const size_t count = calls.devices.size();
    const uint64_t first = AddRange(calls);
    ids_.resize(count);
    views_.resize(count);
    attempts_.resize(count);
    for (size_t i = 0; i < count; ++i) {
      ids_[i] = IdOfRow(calls.devices[i]);
      views_[i] = ids_[i];
      attempts_[i] = AttemptKey{first + i};
    }
    if (method_ == nullptr || method_->name != calls.method_name ||
        method_->payload != calls.payload ||
        method_->response_timeout != calls.response_timeout) {
      method_ = std::make_shared<const MethodCall>(
          MethodCall{.name = std::string(calls.method_name),
                     .payload = std::string(calls.payload),
                     .response_timeout = calls.response_timeout});
    }
    const size_t taken = devices_->Send(
        {.method = method_, .attempts = attempts_, .device_ids = views_});
    // The window of the devices is full.
    for (size_t i = taken; i < count; ++i) {
      (void)gateway_->Answer(calls.range, static_cast<uint32_t>(i),
                             {.code = OutcomeCode::kBusy});
    }
  }

  void OnDesired(const GatewayDesired& update) override {
    std::vector<std::string> ids;
    std::vector<DesiredNotification> notifications;
    ids.reserve(update.devices.size());
    for (size_t i = 0; i < update.devices.size(); ++i) {
      ids.push_back(IdOfRow(update.devices[i]));
      notifications.push_back({.device_id = ids.back(),
                               .patch = update.patch,
                               .version = update.versions[i]});
    }
    devices_->NotifyDesired(notifications);
  }

  void OnRefused(absl::Span<const uint32_t>,
                 const absl::Status& error) override {
    absl::MutexLock lock(&mutex_);
    refusal_error_ = error;
  }
  void OnStreamUp() override {
    absl::MutexLock lock(&mutex_);
    stream_error_ = absl::OkStatus();
  }
  void OnStreamDown(const absl::Status& why, absl::Duration) override {
    absl::MutexLock lock(&mutex_);
    stream_error_ = why;
  }

  // TransportSink.
  void OnOutcomes(absl::Span<const Outcome> outcomes) override {
    while (!outcomes.empty()) {
      const uint64_t number = outcomes[0].attempt.value / kRangeCallsMax;
      size_t count = 1;
      bool all_same = true;
      while (count < outcomes.size() &&
             outcomes[count].attempt.value / kRangeCallsMax == number) {
        all_same = all_same && SameAnswer(outcomes[0], outcomes[count]);
        ++count;
      }
      AnswerCalls(number, outcomes.first(count), all_same);
      outcomes.remove_prefix(count);
    }
  }

  void OnConnections(absl::Span<const ConnectionChange> changes,
                     absl::Span<ConnectionAnswer> answers) override {
    for (ConnectionAnswer& answer : answers) answer.known = true;
    // As they come, in runs of one kind.
    while (!changes.empty()) {
      const bool connected = changes[0].connected;
      std::vector<GatewayDevice> added;
      std::vector<uint32_t> removed;
      size_t count = 0;
      for (; count < changes.size() && changes[count].connected == connected;
           ++count) {
        const uint32_t row = RowOfId(changes[count].device_id);
        if (connected) {
          added.push_back({.token = row, .id = changes[count].device_id});
        } else {
          removed.push_back(row);
        }
      }
      if (connected) {
        // Refused only once the gateway has stopped: nobody has a token twice.
        (void)gateway_->AddDevices(added);
      } else {
        gateway_->RemoveDevices(removed);
      }
      changes.remove_prefix(count);
    }
  }

  void OnReady() override {}

 private:
  // Calls that have come together, until all are answered or out of time.
  struct Range {
    GatewayRange range;
    size_t left = 0;
    size_t size = 0;
    absl::Duration deadline;  // Monotonic.
  };

  // Returns the attempt of its first call; the others follow.
  uint64_t AddRange(const GatewayMethods& calls) {
    const absl::Duration now = clock_.Monotonic();
    absl::MutexLock lock(&mutex_);
    while (!ranges_.empty() &&
           (ranges_.front().left == 0 || ranges_.front().deadline <= now)) {
      ranges_.pop_front();
      ++first_range_;
    }
    ranges_.push_back({.range = calls.range,
                       .left = calls.devices.size(),
                       .size = calls.devices.size(),
                       .deadline = now + calls.response_timeout});
    return (first_range_ + ranges_.size() - 1) * kRangeCallsMax;
  }

  // `outcomes` are of one range, each call's at most once.
  void AnswerCalls(uint64_t number, absl::Span<const Outcome> outcomes,
                   bool all_same) {
    GatewayRange range;
    bool whole;
    {
      absl::MutexLock lock(&mutex_);
      if (number < first_range_) return;  // Out of time.
      Range& r = ranges_[number - first_range_];
      r.left -= outcomes.size();
      range = r.range;
      whole = r.size == outcomes.size();
    }
    const auto answer = [](const Outcome& outcome) {
      return GatewayAnswer{.code = outcome.code,
                           .status = outcome.status,
                           .payload = outcome.payload};
    };
    // What the stream has no room for is not sent: the library answers it with
    // kTimeout, as for a device that says nothing.
    if (whole && all_same) {
      (void)gateway_->AnswerAll(range, answer(outcomes[0]));
      return;
    }
    std::vector<uint32_t> positions;
    std::vector<GatewayAnswer> answers;
    positions.reserve(outcomes.size());
    for (const Outcome& outcome : outcomes) {
      positions.push_back(
          static_cast<uint32_t>(outcome.attempt.value % kRangeCallsMax));
      if (answers.empty() || !all_same) answers.push_back(answer(outcome));
    }
    (void)gateway_->Answer(range, positions, answers);
  }

  Clock& clock_;
  std::unique_ptr<LoopbackTransport> devices_;
  std::unique_ptr<Gateway> gateway_;

  // Of OnMethods(), which is called once at a time.
  std::vector<std::string> ids_;
  std::vector<absl::string_view> views_;
  std::vector<AttemptKey> attempts_;
  std::shared_ptr<const MethodCall> method_;

  // A leaf: held across no call to the gateway or the devices.
  mutable absl::Mutex mutex_;
  absl::Status stream_error_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_error_ ABSL_GUARDED_BY(mutex_);
  std::deque<Range> ranges_ ABSL_GUARDED_BY(mutex_);
  uint64_t first_range_ ABSL_GUARDED_BY(mutex_) =
      0;  // The number of the front.
};

absl::StatusOr<std::unique_ptr<SimulatedGateway>> SimulatedGateway::Start(
    const SimulatedGatewayOptions& options) {
  auto bridge = std::make_unique<Bridge>(&Clock::Real());
  absl::Status status = bridge->Start(options);
  if (!status.ok()) {
    bridge->Stop();
    return status;
  }
  return std::unique_ptr<SimulatedGateway>(
      new SimulatedGateway(std::move(bridge)));
}

SimulatedGateway::SimulatedGateway(std::unique_ptr<Bridge> bridge)
    : bridge_(std::move(bridge)) {}

SimulatedGateway::~SimulatedGateway() { Stop(); }

int SimulatedGateway::port() const { return bridge_->port(); }

GatewayStats SimulatedGateway::Stats() const { return bridge_->Stats(); }

absl::Status SimulatedGateway::StreamError() const {
  return bridge_->StreamError();
}

absl::Status SimulatedGateway::RefusalError() const {
  return bridge_->RefusalError();
}

void SimulatedGateway::Stop() { bridge_->Stop(); }

}  // namespace muster
