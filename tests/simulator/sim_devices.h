// SimDevices: a fleet that methods are called on, which remembers every call;
// and the transport by which one engine reaches it.
//
// A method's name is that of the job's instance, so that the fleet knows which
// job called: it checks by itself that no device is called twice for one job
// (I11) and that no attempt key is used twice.
#ifndef TESTS_SIMULATOR_SIM_DEVICES_H_
#define TESTS_SIMULATOR_SIM_DEVICES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/transport.h"
#include "tests/simulator/faults.h"

namespace muster::simulator {

// One thread's.
class SimDevices {
 public:
  class Front;

  // One call of a method on a device.
  struct Call {
    uint64_t key = 0;
    int life = 0;  // Of the engine that called.
    absl::Duration sent;
    // Outcomes that have been told to an engine, as bits of OutcomeCode.
    uint32_t told = 0;
    std::set<std::string> answers;  // Payloads among them.
  };

  SimDevices(World* world, Executor* executor, Clock* clock)
      : world_(*world), executor_(*executor), clock_(*clock) {}

  // For one engine, number `life`.  Outcomes of calls by engines that are gone
  // are told to the newest.
  std::unique_ptr<Front> MakeFront(int life);

  void Connect(const std::string& device, bool connected);
  bool IsConnected(const std::string& device) const {
    return connected_.contains(device);
  }

  // Calls on the device for the job; nullptr if there are none.
  const std::vector<Call>* CallsOf(const std::string& method,
                                   const std::string& device) const;

 private:
  struct Change {
    std::string device;
    bool connected;
  };

  size_t Send(Front* front, const MethodBatch& batch);
  void Receive(Front* front, const std::string& method,
               const std::string& device, AttemptKey key,
               absl::Duration response_timeout);
  // Tells the outcome after `delay`.
  void Tell(const Front* front, const std::string& method,
            const std::string& device, AttemptKey key, OutcomeCode code,
            int32_t status, std::string payload, absl::Duration delay);
  void Report(const Change& change);

  World& world_;
  Executor& executor_;
  Clock& clock_;
  std::vector<Front*> fronts_;  // Those that are not cut off, in order.
  std::set<std::string> connected_;
  std::map<std::pair<std::string, std::string>, std::vector<Call>> calls_;
  std::set<uint64_t> keys_;
  // Reports are told in the order of the changes: not before this.
  absl::Duration reports_until_ = absl::ZeroDuration();
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

class SimDevices::Front : public Transport {
 public:
  Front(SimDevices* devices, int life) : devices_(*devices), life_(life) {}
  ~Front() override { CutOff(); }

  // From now on nothing is sent and nothing told.
  void CutOff();

  void Start(TransportSink* sink) override;
  size_t Send(const MethodBatch& batch) override {
    return cut_off_ ? 0 : devices_.Send(this, batch);
  }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  void Shutdown() override { CutOff(); }

 private:
  friend class SimDevices;

  SimDevices& devices_;
  const int life_;
  TransportSink* sink_ = nullptr;
  bool cut_off_ = false;
};

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_SIM_DEVICES_H_
