// The engine's end of a gateway's stream, played by hand, and a gateway's
// handler that writes down what it is told.
#ifndef TESTS_GATEWAY_ENGINE_END_H_
#define TESTS_GATEWAY_ENGINE_END_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.pb.h"
#include "transport/grpc/gateway/gateway.h"

namespace muster {

inline constexpr absl::Duration kPatience = absl::Seconds(20);

// What an execution came to.
struct Result {
  v1::OutcomeCode code = v1::OUTCOME_CODE_UNSPECIFIED;
  int32_t status = 0;
  std::string payload;

  friend bool operator==(const Result&, const Result&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Result& r) {
    return out << r.code << " " << r.status << " " << r.payload;
  }
};
inline Result Answered(int32_t status, std::string payload = "") {
  return {v1::OUTCOME_CODE_ANSWERED, status, std::move(payload)};
}

// One stream as the engine sees it, whoever has dialled.  Every frame that is
// read is taken apart into what it says.
class EngineEnd {
 public:
  using Reader = std::function<bool(v1::AttachRequest*)>;
  using Writer = std::function<bool(const v1::AttachResponse&)>;
  EngineEnd(Reader read, Writer write)
      : read_(std::move(read)), write_(std::move(write)) {}

  bool Write(const v1::AttachResponse& frame) { return write_(frame); }

  // Reads one more frame; false at the end of the stream.
  bool Next() {
    v1::AttachRequest frame;
    if (!read_(&frame)) return false;
    ++frames;
    if (frame.has_hello()) hello = frame.hello();
    for (const uint32_t handle : frame.disconnect().handles()) {
      disconnected.push_back(handle);
    }
    if (frame.has_connect() && frame.connect().device_ids().empty()) {
      // The gateway is leaving.
      ++last_connects;
      if (answers_last_connect) AnswerLastConnect();
    } else if (frame.has_connect()) {
      connects.emplace_back(frame.connect().device_ids().begin(),
                            frame.connect().device_ids().end());
      EXPECT_LE(connects.back().size(), 4096u);
    }
    for (const auto& outcomes : frame.outcomes()) Take(outcomes);
    return true;
  }

  void ReadUntil(const std::function<bool()>& done) {
    while (!done()) ASSERT_TRUE(Next());
  }

  void Handshake(uint32_t connect_credit = 16) {
    ASSERT_TRUE(Next());
    EXPECT_EQ(hello.protocol_version(), 1u);
    v1::AttachResponse frame;
    frame.mutable_welcome()->set_protocol_version(1);
    frame.mutable_welcome()->set_connect_credit(connect_credit);
    ASSERT_TRUE(Write(frame));
  }

  // Takes in the next Connect with handles from `first` on.
  std::vector<std::string> TakeConnect(uint32_t first) {
    ReadUntil([&] { return !connects.empty(); });
    if (connects.empty()) return {};
    std::vector<std::string> ids = std::move(connects.front());
    connects.pop_front();
    v1::AttachResponse frame;
    auto* connected = frame.add_connected();
    for (size_t i = 0; i < ids.size(); ++i) {
      connected->add_handles(first + static_cast<uint32_t>(i));
    }
    EXPECT_TRUE(Write(frame));
    return ids;
  }

  void Call(uint32_t range, const std::vector<uint32_t>& handles,
            uint32_t timeout_ms = 30'000) {
    v1::AttachResponse frame;
    AddCall(&frame, range, handles, timeout_ms);
    ASSERT_TRUE(Write(frame));
  }
  static void AddCall(v1::AttachResponse* frame, uint32_t range,
                      const std::vector<uint32_t>& handles,
                      uint32_t timeout_ms = 30'000) {
    auto* work = frame->add_methods();
    work->set_range(range);
    work->set_method_name("reboot");
    work->set_payload("{\"in\":5}");
    work->set_response_timeout_ms(timeout_ms);
    work->mutable_handles()->Add(handles.begin(), handles.end());
  }

  // The gateway may have gone already.
  void AnswerLastConnect() {
    v1::AttachResponse frame;
    frame.add_connected();
    Write(frame);
  }

  bool answers_last_connect = true;  // At once.
  int last_connects = 0;
  int64_t frames = 0;
  v1::AttachRequest::Hello hello;
  std::deque<std::vector<std::string>> connects;
  std::vector<uint32_t> disconnected;
  std::map<std::pair<uint32_t, uint32_t>, Result> results;  // Range, position.

 private:
  void Take(const v1::AttachRequest::Outcomes& o) {
    const int size = o.positions().empty() ? static_cast<int>(o.count())
                                           : o.positions_size();
    ASSERT_GT(size, 0);
    ASSERT_TRUE(o.codes().empty() ||
                o.codes().size() == static_cast<size_t>(size));
    ASSERT_TRUE(o.statuses_size() == 1 || o.statuses_size() == size);
    ASSERT_TRUE(o.payload_sizes_size() <= 1 || o.payload_sizes_size() == size);
    size_t at = 0;
    for (int i = 0; i < size; ++i) {
      const uint32_t position = o.positions().empty()
                                    ? o.first() + static_cast<uint32_t>(i)
                                    : o.positions(i);
      Result result;
      result.code = o.codes().empty()
                        ? v1::OUTCOME_CODE_ANSWERED
                        : static_cast<v1::OutcomeCode>(o.codes()[i]);
      result.status = o.statuses(o.statuses_size() == 1 ? 0 : i);
      if (o.payload_sizes_size() == 1 && size > 1) {
        ASSERT_EQ(o.payload_sizes(0), o.payloads().size());
        result.payload = o.payloads();
      } else if (o.payload_sizes_size() != 0) {
        ASSERT_LE(at + o.payload_sizes(i), o.payloads().size());
        result.payload = o.payloads().substr(at, o.payload_sizes(i));
        at += o.payload_sizes(i);
      }
      EXPECT_TRUE(
          results.emplace(std::pair(o.range(), position), result).second)
          << "range " << o.range() << " position " << position
          << " is answered twice";
    }
    if (o.payload_sizes_size() > 1) {
      EXPECT_EQ(at, o.payloads().size());
    }
  }

  const Reader read_;
  const Writer write_;
};

// Writes down all it is told; answers as it is told.
class Recorder : public GatewayHandler {
 public:
  struct Call {
    GatewayRange range;
    std::string method, payload;
    absl::Duration timeout;
    std::vector<uint32_t> devices;
  };

  std::function<void(const GatewayMethods&)> on_methods;

  void OnMethods(const GatewayMethods& calls) override {
    const Guard guard(this);
    if (on_methods != nullptr) on_methods(calls);
    absl::MutexLock lock(&mutex_);
    calls_.push_back({calls.range,
                      std::string(calls.method_name),
                      std::string(calls.payload),
                      calls.response_timeout,
                      {calls.devices.begin(), calls.devices.end()}});
  }
  void OnDesired(const GatewayDesired& update) override {
    const Guard guard(this);
    absl::MutexLock lock(&mutex_);
    for (size_t i = 0; i < update.devices.size(); ++i) {
      desired_.emplace_back(update.devices[i], update.versions[i],
                            std::string(update.patch));
    }
  }
  void OnAttached(absl::Span<const uint32_t> devices) override {
    const Guard guard(this);
    absl::MutexLock lock(&mutex_);
    attached_.insert(attached_.end(), devices.begin(), devices.end());
  }
  void OnRefused(absl::Span<const uint32_t> devices,
                 const absl::Status& error) override {
    const Guard guard(this);
    absl::MutexLock lock(&mutex_);
    for (const uint32_t device : devices) refused_.emplace_back(device, error);
  }
  void OnTakenOver(absl::Span<const uint32_t> devices) override {
    const Guard guard(this);
    absl::MutexLock lock(&mutex_);
    taken_over_.insert(taken_over_.end(), devices.begin(), devices.end());
  }
  void OnStreamUp() override {
    const Guard guard(this);
    absl::MutexLock lock(&mutex_);
    ++ups_;
  }
  void OnStreamDown(const absl::Status& why, absl::Duration retry_in) override {
    const Guard guard(this);
    absl::MutexLock lock(&mutex_);
    downs_.emplace_back(why, retry_in);
  }

  // Waits until it is so.
  bool Await(const std::function<bool(const Recorder&)>& done) {
    absl::MutexLock lock(&mutex_);
    const auto condition = [&] { return done(*this); };
    return mutex_.AwaitWithTimeout(absl::Condition(&condition), kPatience);
  }
  bool AwaitCalls(size_t count) {
    return Await(
        [count](const Recorder& r) { return r.calls_.size() >= count; });
  }
  bool AwaitAttached(size_t count) {
    return Await(
        [count](const Recorder& r) { return r.attached_.size() >= count; });
  }
  bool AwaitDowns(size_t count) {
    return Await(
        [count](const Recorder& r) { return r.downs_.size() >= count; });
  }
  void Close() { closed_ = true; }

  Call call(size_t i) {
    absl::MutexLock lock(&mutex_);
    return calls_[i];
  }
  template <typename T>
  T Copy(const T& list) {
    absl::MutexLock lock(&mutex_);
    return list;
  }

  // Read while Await() calls, or with Copy().
  std::vector<Call> calls_;
  std::vector<std::tuple<uint32_t, int64_t, std::string>> desired_;
  std::vector<uint32_t> attached_, taken_over_;
  std::vector<std::pair<uint32_t, absl::Status>> refused_;
  std::vector<std::pair<absl::Status, absl::Duration>> downs_;
  int ups_ = 0;

 private:
  // "one call at a time", "none after Stop()"
  struct Guard {
    explicit Guard(Recorder* recorder) : r(recorder) {
      EXPECT_FALSE(r->inside_.exchange(true));
      EXPECT_FALSE(r->closed_.load());
    }
    ~Guard() { r->inside_.store(false); }
    Recorder* const r;
  };
  std::atomic<bool> inside_{false}, closed_{false};
  absl::Mutex mutex_;
};

inline GatewayOptions Quick() {
  return {.name = "test-gateway",
          .reconnect_min = absl::Milliseconds(1),
          .reconnect_max = absl::Milliseconds(20),
          .refused_retry_min = absl::Milliseconds(2),
          .refused_retry_max = absl::Milliseconds(8)};
}

}  // namespace muster

#endif  // TESTS_GATEWAY_ENGINE_END_H_
