// Simulation: an engine over a fleet of simulated devices, one for each twin.
#ifndef SERVER_SIMULATION_H_
#define SERVER_SIMULATION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/job.h"
#include "engine/model/job_status.h"
#include "engine/schedule/executor.h"
#include "server/fleet_loading.h"
#include "server/kept_folder.h"
#include "server/progress.h"
#include "transport/loopback/loopback.h"

namespace muster {

struct SimulationOptions {
  // Transport, executor, journal and recovery_progress are the simulation's.
  EngineOptions engine;
  LoopbackOptions devices;
  // Devices are connected as their twins say; otherwise devices.offline_share
  // decides.
  bool connected_as_in_twins = true;
  // The folder in which all is kept, and in which what is there already goes
  // on; "" to keep nothing.
  std::string data;
  JournalSync sync = JournalSync::kGroup;
  // Whether a fleet that was kept is the right one, asked before anything goes
  // on; an error is Create()'s answer.  May be null.
  std::function<absl::Status(const KeptFleet& fleet)> check_fleet;
};

class Simulation {
 public:
  // INVALID_ARGUMENT if an option is out of its range; with a folder also what
  // KeptFolder::Open() and Engine::Create() answer.  A recovery shows on `line`
  // how far it is; `tick` is called meanwhile now and then, by one thread at a
  // time; may be null.  The devices of a fleet that was kept are there, and
  // connected as they were when it was loaded, before its jobs go on.
  static absl::StatusOr<std::unique_ptr<Simulation>> Create(
      const SimulationOptions& options, ProgressLine& line,
      const std::function<void()>& tick);

  // The fleet that was kept, without its ids; null if there is none.
  const KeptFleet* kept_fleet() const {
    return kept_ != nullptr && kept_->has_fleet() ? &kept_->fleet() : nullptr;
  }

  // What was found in the folder, as it was then: a job that has ended
  // meanwhile counts as running.
  struct Found {
    int64_t devices = 0;
    int64_t connected = 0;
    std::map<JobStatus, int64_t> jobs;
    absl::Duration elapsed;  // Until it was recovered.
  };
  absl::StatusOr<Found> CountFound() const;

  // The jobs that had not ended when they were found, or that were created
  // since; the oldest first.
  absl::StatusOr<std::vector<std::string>> UnfinishedJobs() const;

  struct Fleet : LoadedFleet {
    int64_t connected = 0;
  };

  // Loads the twins, and lets their devices be there: once, and not if there is
  // a kept fleet.  Errors as LoadFleet() and KeptFolder::KeepFleet(), and
  // FAILED_PRECONDITION if a load that was cut off has left twins in the folder
  // that this one has not.
  absl::StatusOr<Fleet> Load(const FleetSource& source, ProgressLine& line,
                             const std::function<void()>& tick);

  Engine& engine() { return *engine_; }
  LoopbackTransport& devices() { return *devices_; }

 private:
  Simulation() = default;

  // Adds a device for every twin, connected as the twin says.
  absl::Status AddAsInTwins();
  // Whether the job had ended before this simulation began.
  bool EndedBefore(const JobInfo& job) const {
    return job.end_time.has_value() && *job.end_time < begin_;
  }
  absl::Status ForEachJob(
      absl::FunctionRef<void(const JobInfo& job)> visit) const;
  // Adds the devices of the kept fleet.
  void AddKept();
  // Remembers the fleet, its devices connected as their twins say now.
  absl::Status KeepFleet(const FleetSource& source);

  // Members go the other way round: first the engine, at last the threads.
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<KeptFolder> kept_;
  std::unique_ptr<LoopbackTransport> devices_;
  std::unique_ptr<Engine> engine_;
  bool connected_as_in_twins_ = true;
  // Devices come and go by themselves, so the transport must know them all.
  // Otherwise it need not: the engine calls those whose twins say that they are
  // connected, and a device that was never added answers.
  bool devices_change_ = false;
  absl::Time begin_;
  absl::Duration recovery_time_;
};

// "2,000 devices, 1,720 connected; 3 jobs: 1 running, 2 completed".
std::string FoundText(const Simulation::Found& found);

}  // namespace muster

#endif  // SERVER_SIMULATION_H_
