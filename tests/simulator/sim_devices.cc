#include "tests/simulator/sim_devices.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace muster::simulator {
namespace {

// An answer that no execution may end with.
constexpr char kContradiction[] = "\"contradiction\"";

uint32_t BitOf(OutcomeCode code) { return 1u << static_cast<int>(code); }

}  // namespace

std::unique_ptr<SimDevices::Front> SimDevices::MakeFront(int life) {
  return std::make_unique<Front>(this, life);
}

void SimDevices::Front::CutOff() {
  if (cut_off_) return;
  cut_off_ = true;
  auto& fronts = devices_.fronts_;
  fronts.erase(std::remove(fronts.begin(), fronts.end(), this), fronts.end());
}

void SimDevices::Front::Start(TransportSink* sink) {
  sink_ = sink;
  devices_.fronts_.push_back(this);
  std::vector<ConnectionChange> changes;
  for (const std::string& device : devices_.connected_) {
    changes.push_back({device, true});
  }
  sink->OnConnections(changes, {});
}

const std::vector<SimDevices::Call>* SimDevices::CallsOf(
    const std::string& method, const std::string& device) const {
  auto it = calls_.find({method, device});
  return it == calls_.end() ? nullptr : &it->second;
}

void SimDevices::Connect(const std::string& device, bool connected) {
  if (IsConnected(device) == connected) return;
  if (connected) {
    connected_.insert(device);
  } else {
    connected_.erase(device);
    world_.faults.Count(Fault::kDisconnect);
  }
  Report({device, connected});
}

void SimDevices::Report(const Change& change) {
  const absl::Duration now = clock_.Monotonic();
  if (world_.faults.Strikes(Fault::kReportLate)) {
    reports_until_ = std::max(reports_until_, now) +
                     absl::Milliseconds(1 + world_.choices->Below(8000));
  }
  const auto tell = [this, change] {
    const ConnectionChange told{change.device, change.connected};
    for (Front* front : std::vector<Front*>(fronts_)) {
      front->sink_->OnConnections({&told, 1}, {});
    }
  };
  if (reports_until_ <= now) {
    tell();
    return;
  }
  executor_.RunAt(reports_until_, [tell, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired()) tell();
  });
}

size_t SimDevices::Send(Front* front, const MethodBatch& batch) {
  size_t count = batch.attempts.size();
  if (world_.faults.Strikes(Fault::kPartialSend)) {
    count = world_.choices->Below(static_cast<uint32_t>(count));
    executor_.RunAt(
        clock_.Monotonic() + absl::Milliseconds(world_.choices->Below(2000)),
        [this, front, alive = std::weak_ptr<int>(alive_)] {
          if (alive.expired()) return;
          if (std::find(fronts_.begin(), fronts_.end(), front) !=
              fronts_.end()) {
            front->sink_->OnReady();
          }
        });
  }
  for (size_t i = 0; i < count; ++i) {
    Receive(front, batch.method->name, std::string(batch.device_ids[i]),
            batch.attempts[i], batch.method->response_timeout);
  }
  return count;
}

void SimDevices::Receive(Front* front, const std::string& method,
                         const std::string& device, AttemptKey key,
                         absl::Duration response_timeout) {
  std::vector<Call>& calls = calls_[{method, device}];
  if (world_.trace) {
    world_.trace(absl::StrCat("  call ", method, " on ", device, " attempt ",
                              absl::Hex(key.value), " of life ", front->life_));
  }
  if (!keys_.insert(key.value).second) {
    world_.violation(absl::StrCat("attempt key ", absl::Hex(key.value),
                                  " is used again: ", method, " on ", device));
  }
  for (const Call& call : calls) {
    if ((call.told & BitOf(OutcomeCode::kNotConnected)) == 0) {
      world_.violation(absl::StrCat("I11: ", method, " is called on ", device,
                                    " again; attempt ", absl::Hex(call.key),
                                    " was not returned"));
    }
  }
  calls.push_back({key.value, front->life_, clock_.Monotonic(), 0, {}});
  const std::string payload =
      absl::StrCat("\"", method, ":", device, ":", calls.size(), "\"");

  Choices& choices = *world_.choices;
  absl::Duration delay = absl::Milliseconds(
      choices.Below(3) == 0 ? choices.Below(4000) : choices.Below(50));
  if (!IsConnected(device)) {
    // Not before its disconnection is told.
    delay +=
        std::max(absl::ZeroDuration(), reports_until_ - clock_.Monotonic());
    Tell(front, method, device, key, OutcomeCode::kNotConnected, 0, "", delay);
    // When these come the device may have been called again.
    if (world_.faults.Strikes(Fault::kOutcomeTwice)) {
      Tell(front, method, device, key, OutcomeCode::kNotConnected, 0, "",
           delay + absl::Milliseconds(choices.Below(20'000)));
    }
    if (world_.faults.Strikes(Fault::kOutcomeContradicts)) {
      Tell(front, method, device, key, OutcomeCode::kAnswered, 999,
           kContradiction, delay + absl::Milliseconds(choices.Below(20'000)));
    }
    return;
  }
  if (world_.faults.Strikes(Fault::kOutcomeLost)) return;
  OutcomeCode code = OutcomeCode::kAnswered;
  if (world_.faults.Strikes(Fault::kCallFails)) {
    static constexpr OutcomeCode kFailures[] = {
        OutcomeCode::kNoHandler, OutcomeCode::kNoSuchDevice,
        OutcomeCode::kBusy,      OutcomeCode::kBadResponse,
        OutcomeCode::kLinkLost,  OutcomeCode::kResponseTooLarge,
        OutcomeCode::kTimeout,   OutcomeCode::kError};
    code = choices.Pick(kFailures);
  }
  if (world_.faults.Strikes(Fault::kOutcomeLate)) {
    delay += response_timeout + absl::Milliseconds(choices.Below(3000));
  }
  if (world_.faults.Strikes(Fault::kOutcomesReordered)) {
    delay = absl::Milliseconds(choices.Below(4500));
  }
  const int32_t status = static_cast<int32_t>(choices.Below(600));
  Tell(front, method, device, key, code, status, payload, delay);
  if (world_.faults.Strikes(Fault::kOutcomeTwice)) {
    Tell(front, method, device, key, code, status, payload,
         absl::Milliseconds(choices.Below(20'000)));
  }
  if (world_.faults.Strikes(Fault::kOutcomeContradicts)) {
    // The transport repeats itself wrongly, and later: what came first holds.
    Tell(front, method, device, key, OutcomeCode::kAnswered, 999,
         kContradiction, delay + absl::Milliseconds(choices.Below(20'000)));
  }
}

void SimDevices::Tell(const Front* front, const std::string& method,
                      const std::string& device, AttemptKey key,
                      OutcomeCode code, int32_t status, std::string payload,
                      absl::Duration delay) {
  const int life = front->life_;
  executor_.RunAt(
      clock_.Monotonic() + delay,
      [this, alive = std::weak_ptr<int>(alive_), life, method, device, key,
       code, status, payload = std::move(payload)] {
        if (alive.expired() || fronts_.empty()) return;
        Front* to = nullptr;
        for (Front* f : fronts_) {
          if (f->life_ == life) to = f;
        }
        if (to == nullptr) {
          to = fronts_.back();
          world_.faults.Count(Fault::kOutcomeOfOldLife);
        }
        for (Call& call : calls_[{method, device}]) {
          if (call.key != key.value) continue;
          call.told |= BitOf(code);
          if (code == OutcomeCode::kAnswered && payload != kContradiction) {
            call.answers.insert(payload);
          }
        }
        if (world_.trace) {
          world_.trace(absl::StrCat("  outcome ", static_cast<int>(code),
                                    " of ", method, " on ", device, " attempt ",
                                    absl::Hex(key.value), " to life ",
                                    to->life_));
        }
        const Outcome outcome{key, code, status, payload};
        to->sink_->OnOutcomes({&outcome, 1});
      });
}

}  // namespace muster::simulator
