// Simulation: an engine over a fleet of simulated devices, one for each twin.
#ifndef SERVER_SIMULATION_H_
#define SERVER_SIMULATION_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/schedule/executor.h"
#include "server/fleet_loading.h"
#include "server/progress.h"
#include "transport/loopback/loopback.h"

namespace muster {

struct SimulationOptions {
  EngineOptions engine;  // Transport and executor are the simulation's.
  LoopbackOptions devices;
  // Devices are connected as their twins say; otherwise devices.offline_share
  // decides.
  bool connected_as_in_twins = true;
};

class Simulation {
 public:
  // INVALID_ARGUMENT if an option is out of its range.
  static absl::StatusOr<std::unique_ptr<Simulation>> Create(
      const SimulationOptions& options);

  struct Fleet : LoadedFleet {
    int64_t connected = 0;
  };

  // Loads the twins, and lets their devices be there: once.  Errors as
  // LoadFleet().
  absl::StatusOr<Fleet> Load(const FleetSource& source, ProgressLine& line,
                             const std::function<void()>& tick);

  Engine& engine() { return *engine_; }
  LoopbackTransport& devices() { return *devices_; }

 private:
  Simulation() = default;

  // Adds a device for every twin, connected as the twin says.
  absl::Status AddAsInTwins();

  // Members go the other way round: first the engine, at last the threads.
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<LoopbackTransport> devices_;
  std::unique_ptr<Engine> engine_;
  bool connected_as_in_twins_ = true;
  // Devices come and go by themselves, so the transport must know them all.
  // Otherwise it need not: the engine calls those whose twins say that they are
  // connected, and a device that was never added answers.
  bool devices_change_ = false;
};

// Threads that `muster` uses if nobody says otherwise: the machine's
// processors.
int DefaultThreads();

}  // namespace muster

#endif  // SERVER_SIMULATION_H_
