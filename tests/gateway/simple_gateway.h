// SimpleGateway: a gateway as the protocol wants it, over a FramePipe, with
// devices that answer "echo" and "never" as tests/transport_conformance.h says.
#ifndef TESTS_GATEWAY_SIMPLE_GATEWAY_H_
#define TESTS_GATEWAY_SIMPLE_GATEWAY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "muster/v1/gateway_service.pb.h"
#include "tests/gateway/frame_pipe.h"
#include "tests/transport_conformance.h"

namespace muster {

// Thread-safe.
class SimpleGateway {
 public:
  // Changes outcomes before they go out.  Called with a lock.
  using Meddle = std::function<void(v1::AttachRequest*)>;

  explicit SimpleGateway(std::string name, uint32_t work_credit = 0)
      : name_(std::move(name)), work_credit_(work_credit) {}
  ~SimpleGateway() { Stop(); }

  void SetMeddle(Meddle meddle) {
    absl::MutexLock lock(&mutex_);
    meddle_ = std::move(meddle);
  }

  // Serves `pipe` until it ends, on this thread.
  void Serve(std::shared_ptr<FramePipe> pipe) {
    {
      absl::MutexLock lock(&mutex_);
      if (stopped_) {
        pipe->Kill();
        return;
      }
      pipe_ = pipe;
      v1::AttachRequest frame;
      frame.mutable_hello()->set_protocol_version(1);
      frame.mutable_hello()->set_gateway(name_);
      frame.mutable_hello()->set_work_credit(work_credit_);
      pipe->Write(frame);
      for (auto& [id, device] : devices_) Advance(id, &device);
      Flush();
    }
    v1::AttachResponse frame;
    while (pipe->Read(&frame)) {
      absl::MutexLock lock(&mutex_);
      Take(frame);
    }
    absl::MutexLock lock(&mutex_);
    pipe_ = nullptr;
    handles_.clear();
    connecting_.clear();
    held_.clear();
    out_.Clear();
    unanswered_connects_ = 0;
    connect_credit_ = 1;
    for (auto& [id, device] : devices_) device.phase = Phase::kIdle;
  }
  // The same on a thread of its own.
  void Start(std::shared_ptr<FramePipe> pipe) {
    thread_ = std::thread([this, pipe] {
      Serve(pipe);
      const grpc::Status status = pipe->Finish();
      absl::MutexLock lock(&mutex_);
      status_ = status;
      ended_ = true;
    });
  }
  // Ends the stream, and waits for it.
  void Stop() {
    {
      absl::MutexLock lock(&mutex_);
      stopped_ = true;
      if (pipe_ != nullptr) pipe_->Kill();
    }
    if (thread_.joinable()) thread_.join();
  }
  bool ended() const {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }
  grpc::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

  void SetConnected(absl::string_view id, bool connected) {
    absl::MutexLock lock(&mutex_);
    Device& device = devices_[std::string(id)];
    device.wanted = connected;
    Advance(std::string(id), &device);
    Flush();
  }
  void SetConnected(const std::vector<std::string>& ids, bool connected) {
    absl::MutexLock lock(&mutex_);
    for (const std::string& id : ids) {
      Device& device = devices_[id];
      device.wanted = connected;
      Advance(id, &device);
    }
    Flush();
  }

  std::vector<DeviceCall> calls() const {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  size_t call_count() const {
    absl::MutexLock lock(&mutex_);
    return calls_.size();
  }
  std::vector<DeviceNotification> notifications() const {
    absl::MutexLock lock(&mutex_);
    return notifications_;
  }
  // Those that the engine has taken.
  size_t attached() const {
    absl::MutexLock lock(&mutex_);
    return handles_.size();
  }
  std::vector<std::string> taken_over() const {
    absl::MutexLock lock(&mutex_);
    return taken_over_;
  }
  std::vector<std::pair<std::string, int>> refusals() const {
    absl::MutexLock lock(&mutex_);
    return refusals_;
  }
  bool draining() const {
    absl::MutexLock lock(&mutex_);
    return draining_;
  }
  // For frames of the test's own.
  std::shared_ptr<FramePipe> pipe() const {
    absl::MutexLock lock(&mutex_);
    return pipe_;
  }

 private:
  enum class Phase { kIdle, kConnecting, kAttached };
  struct Device {
    bool wanted = false;
    Phase phase = Phase::kIdle;
    uint32_t handle = 0;
  };

  // Brings the engine's view of the device nearer to what is wanted.
  void Advance(const std::string& id, Device* device)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (pipe_ == nullptr) return;
    if (device->wanted && device->phase == Phase::kIdle) {
      device->phase = Phase::kConnecting;
      // Parts count in the order of their numbers: what was before goes first.
      if (out_.connect().device_ids_size() == 4096) Flush();
      out_.mutable_connect()->add_device_ids(id);
    } else if (!device->wanted && device->phase == Phase::kAttached) {
      if (out_.has_connect()) Flush();
      out_.mutable_disconnect()->add_handles(device->handle);
      handles_.erase(device->handle);
      device->phase = Phase::kIdle;
    }
  }

  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (pipe_ == nullptr) return;
    if (out_.has_connect()) {
      connecting_.emplace_back(out_.connect().device_ids().begin(),
                               out_.connect().device_ids().end());
      // Frames with Connect wait until there is credit for them.
      held_.push_back(out_);
    } else if (out_.ByteSizeLong() > 0) {
      if (!held_.empty()) {
        held_.push_back(out_);
      } else {
        pipe_->Write(out_);
      }
    }
    out_.Clear();
    WriteHeld();
  }
  void WriteHeld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (!held_.empty()) {
      if (held_.front().has_connect()) {
        if (unanswered_connects_ >= connect_credit_) return;
        ++unanswered_connects_;
      }
      pipe_->Write(held_.front());
      held_.erase(held_.begin());
    }
  }

  void Take(const v1::AttachResponse& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (frame.has_welcome()) {
      connect_credit_ = frame.welcome().connect_credit();
    }
    for (const auto& connected : frame.connected()) {
      --unanswered_connects_;
      const std::vector<std::string> ids = std::move(connecting_.front());
      connecting_.erase(connecting_.begin());
      for (const auto& refusal : connected.refusals()) {
        refusals_.emplace_back(ids[refusal.position()], refusal.error().code());
      }
      for (size_t i = 0; i < ids.size(); ++i) {
        Device& device = devices_[ids[i]];
        device.handle = connected.handles(static_cast<int>(i));
        if (device.handle == 0) {
          device.phase = Phase::kIdle;
          device.wanted = false;
          continue;
        }
        device.phase = Phase::kAttached;
        handles_[device.handle] = ids[i];
        Advance(ids[i], &device);
      }
    }
    for (const auto& dropped : frame.dropped()) {
      for (const uint32_t handle : dropped.handles()) {
        const auto it = handles_.find(handle);
        if (it == handles_.end()) continue;  // It has gone already.
        taken_over_.push_back(it->second);
        Device& device = devices_[it->second];
        if (device.handle == handle) {
          device.phase = Phase::kIdle;
          device.wanted = false;
        }
        out_.mutable_disconnect()->add_handles(handle);
        handles_.erase(it);
      }
    }
    Flush();
    for (const auto& update : frame.desired()) {
      for (int i = 0; i < update.handles_size(); ++i) {
        const auto it = handles_.find(update.handles(i));
        if (it == handles_.end()) continue;
        notifications_.push_back({.device_id = it->second,
                                  .patch = update.patch(),
                                  .version = update.versions(i)});
      }
    }
    for (const auto& work : frame.methods()) Answer(work);
    if (frame.draining()) draining_ = true;
    if (meddle_ != nullptr) meddle_(&out_);
    Flush();
  }

  void Answer(const v1::AttachResponse::MethodWork& work)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::AttachRequest::Outcomes outcomes;
    outcomes.set_range(work.range());
    for (int i = 0; i < work.handles_size(); ++i) {
      const auto it = handles_.find(work.handles(i));
      std::string payload;
      v1::OutcomeCode code = v1::OUTCOME_CODE_NOT_CONNECTED;
      if (it != handles_.end()) {
        calls_.push_back({.device_id = it->second,
                          .method = work.method_name(),
                          .payload = work.payload()});
        if (work.method_name() == "never") continue;
        code = v1::OUTCOME_CODE_ANSWERED;
        payload = EchoOf(it->second, work.payload());
      }
      outcomes.add_positions(i);
      outcomes.mutable_codes()->push_back(static_cast<char>(code));
      outcomes.add_statuses(200);
      outcomes.add_payload_sizes(static_cast<uint32_t>(payload.size()));
      outcomes.mutable_payloads()->append(payload);
    }
    if (outcomes.positions_size() == 0) return;
    out_.add_outcomes()->Swap(&outcomes);
  }

  const std::string name_;
  const uint32_t work_credit_;
  std::thread thread_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<FramePipe> pipe_ ABSL_GUARDED_BY(mutex_);
  Meddle meddle_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Device> devices_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, std::string> handles_ ABSL_GUARDED_BY(mutex_);
  v1::AttachRequest out_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::AttachRequest> held_ ABSL_GUARDED_BY(mutex_);
  // Of frames with Connect that are held or unanswered.
  std::vector<std::vector<std::string>> connecting_ ABSL_GUARDED_BY(mutex_);
  uint32_t unanswered_connects_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t connect_credit_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<DeviceCall> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<DeviceNotification> notifications_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> taken_over_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<std::string, int>> refusals_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // TESTS_GATEWAY_SIMPLE_GATEWAY_H_
