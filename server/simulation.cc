#include "server/simulation.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "server/text.h"

namespace muster {
namespace {

// Rows of one page: enough to make the sorting of a page cheap per row, and
// some tens of megabytes.
constexpr int kPageRows = 1'000'000;

using Ids = absl::Span<const absl::string_view>;

// Calls `visit` with the deviceIds in the rows of the statement, many at a
// time.
absl::Status ForEachDeviceId(const Engine& engine, absl::string_view statement,
                             absl::FunctionRef<void(Ids)> visit) {
  std::string continuation;
  JsonParser parser;
  do {
    absl::StatusOr<TwinPage> page =
        engine.Query(statement, kPageRows, continuation);
    if (!page.ok()) return page.status();
    std::vector<std::string> ids;
    ids.reserve(page->rows.size());
    for (const std::string& row : page->rows) {
      absl::StatusOr<Json> json = parser.Parse(row);
      if (!json.ok()) return json.status();
      ids.emplace_back(json->view().Find("deviceId").string_value());
    }
    visit(std::vector<absl::string_view>(ids.begin(), ids.end()));
    continuation = std::move(page->continuation);
  } while (!continuation.empty());
  return absl::OkStatus();
}

// A disabled device is not connected, but a document may say so.
absl::StatusOr<int64_t> CountConnected(const Engine& engine) {
  absl::StatusOr<TwinPage> page = engine.Query(
      "SELECT COUNT() AS n FROM devices WHERE connectionState = 'Connected' "
      "AND status = 'enabled'");
  if (!page.ok()) return page.status();
  absl::StatusOr<Json> row = ParseJson(page->rows.at(0));
  if (!row.ok()) return row.status();
  return row->view().Find("n").int_value();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Simulation>> Simulation::Create(
    const SimulationOptions& options, ProgressLine& line,
    const std::function<void()>& tick) {
  Clock& clock = Clock::Real();
  const absl::Duration begin = clock.Monotonic();
  std::unique_ptr<Simulation> simulation(new Simulation);
  Simulation& s = *simulation;
  s.begin_ = clock.Now();
  s.connected_as_in_twins_ = options.connected_as_in_twins;
  s.devices_change_ = options.devices.reconnect_max > absl::ZeroDuration() ||
                      options.devices.drop_mean > absl::ZeroDuration() ||
                      !options.devices.answer_unknown;
  s.executor_ = MakeThreadExecutor(options.engine.threads);
  absl::StatusOr<std::unique_ptr<LoopbackTransport>> devices =
      LoopbackTransport::Create(options.devices, &Clock::Real(),
                                s.executor_.get());
  if (!devices.ok()) return devices.status();
  s.devices_ = *std::move(devices);
  EngineOptions engine_options = options.engine;
  engine_options.transport = s.devices_.get();
  engine_options.executor = s.executor_.get();
  if (!options.data.empty()) {
    absl::StatusOr<std::unique_ptr<KeptFolder>> kept =
        KeptFolder::Open(options.data, options.sync);
    if (!kept.ok()) return kept.status();
    s.kept_ = *std::move(kept);
    engine_options.journal = s.kept_->journal();
  }
  if (s.kept_fleet() != nullptr) {
    if (options.check_fleet) {
      absl::Status status = options.check_fleet(*s.kept_fleet());
      if (!status.ok()) return status;
    }
    // They are reported as the engine starts: a connect timeout that has passed
    // meanwhile is not held against a device that is there.
    s.AddKept();
    engine_options.recovery_progress = [&](int done, int partitions) {
      if (tick) tick();
      Progress progress;
      progress.label = "recovering";
      progress.done = done;
      progress.total = partitions;
      progress.figures = absl::StrCat(done, " of ", partitions, " partitions");
      line.Show(clock.Monotonic(), progress);
    };
  }
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(engine_options);
  line.Clear();
  if (!engine.ok()) return engine.status();
  s.engine_ = *std::move(engine);
  s.recovery_time_ = clock.Monotonic() - begin;
  return simulation;
}

void Simulation::AddKept() {
  const KeptFleet& fleet = kept_->fleet();
  if (!connected_as_in_twins_) {
    devices_->AddDevices(fleet.connected);
    devices_->AddDevices(fleet.disconnected);
  } else {
    devices_->AddDevices(fleet.connected, true);
    // As in AddAsInTwins().
    if (devices_change_) devices_->AddDevices(fleet.disconnected, false);
  }
  kept_->DropIds();
}

absl::StatusOr<Simulation::Found> Simulation::CountFound() const {
  Found found;
  found.elapsed = recovery_time_;
  found.devices = engine_->Stats().twins;
  absl::StatusOr<int64_t> connected = CountConnected(*engine_);
  if (!connected.ok()) return connected.status();
  found.connected = *connected;
  absl::Status status = ForEachJob([&](const JobInfo& job) {
    const bool ended_since = IsTerminal(job.status) && !EndedBefore(job);
    ++found.jobs[ended_since ? JobStatus::kRunning : job.status];
  });
  if (!status.ok()) return status;
  return found;
}

absl::StatusOr<std::vector<std::string>> Simulation::UnfinishedJobs() const {
  std::vector<std::string> ids;
  absl::Status status = ForEachJob([&](const JobInfo& job) {
    if (!EndedBefore(job)) ids.push_back(job.job_id);
  });
  if (!status.ok()) return status;
  std::reverse(ids.begin(), ids.end());  // They came newest first.
  return ids;
}

absl::Status Simulation::ForEachJob(
    absl::FunctionRef<void(const JobInfo& job)> visit) const {
  std::string continuation;
  do {
    absl::StatusOr<JobPage> page =
        engine_->ListJobs({}, kPageRows, continuation);
    if (!page.ok()) return page.status();
    for (const JobInfo& job : page->jobs) visit(job);
    continuation = std::move(page->continuation);
  } while (!continuation.empty());
  return absl::OkStatus();
}

absl::Status Simulation::KeepFleet(const FleetSource& source) {
  std::vector<std::string> ids[2];
  for (const bool connected : {true, false}) {
    absl::Status status = ForEachDeviceId(
        *engine_,
        absl::StrCat("SELECT deviceId FROM devices WHERE connectionState = '",
                     connected ? "Connected" : "Disconnected", "'"),
        [&](Ids page) {
          for (absl::string_view id : page) ids[connected].emplace_back(id);
        });
    if (!status.ok()) return status;
  }
  KeptFleet fleet;
  fleet.name = source.label;
  fleet.bytes = source.bytes;
  fleet.connected.assign(ids[true].begin(), ids[true].end());
  fleet.disconnected.assign(ids[false].begin(), ids[false].end());
  return kept_->KeepFleet(fleet);
}

absl::Status Simulation::AddAsInTwins() {
  for (const bool connected : {true, false}) {
    absl::Status status = ForEachDeviceId(
        *engine_,
        absl::StrCat("SELECT deviceId FROM devices WHERE connectionState = '",
                     connected ? "Connected" : "Disconnected", "'"),
        // Those that exist stay as they are: nobody is added twice although the
        // first have begun to drop.
        [&](Ids ids) { devices_->AddDevices(ids, connected); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Simulation::Fleet> Simulation::Load(
    const FleetSource& source, ProgressLine& line,
    const std::function<void()>& tick) {
  absl::StatusOr<LoadedFleet> loaded = LoadFleet(*engine_, source, line, tick);
  if (!loaded.ok()) return loaded.status();
  if (kept_ != nullptr) {
    if (engine_->Stats().twins != loaded->devices) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the load of another fleet was cut off there, and has left ",
          Counted(engine_->Stats().twins - loaded->devices, "twin"), " that ",
          source.label, " has not; begin with a new folder"));
    }
    if (absl::Status s = KeepFleet(source); !s.ok()) return s;
  }
  absl::Status added;
  if (!connected_as_in_twins_) {
    added = ForEachDeviceId(*engine_, "SELECT deviceId FROM devices",
                            [&](Ids ids) { devices_->AddDevices(ids); });
  } else if (devices_change_) {
    added = AddAsInTwins();
  }
  if (!added.ok()) return added;
  absl::StatusOr<int64_t> connected = CountConnected(*engine_);
  if (!connected.ok()) return connected.status();
  Fleet fleet;
  static_cast<LoadedFleet&>(fleet) = *loaded;
  fleet.connected = *connected;
  return fleet;
}

std::string FoundText(const Simulation::Found& found) {
  int64_t sum = 0;
  std::string by_status;
  for (const auto& [status, count] : found.jobs) {
    sum += count;
    absl::StrAppend(&by_status, by_status.empty() ? ": " : ", ",
                    WithCommas(count), " ", JobStatusName(status));
  }
  return absl::StrCat(Counted(found.devices, "device"), ", ",
                      WithCommas(found.connected), " connected; ",
                      Counted(sum, "job"), by_status);
}

}  // namespace muster
