#include "server/simulation.h"

#include <algorithm>
#include <string>
#include <thread>
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

absl::StatusOr<int64_t> CountConnected(const Engine& engine) {
  absl::StatusOr<TwinPage> page = engine.Query(
      "SELECT COUNT() AS n FROM devices WHERE connectionState = 'Connected'");
  if (!page.ok()) return page.status();
  absl::StatusOr<Json> row = ParseJson(page->rows.at(0));
  if (!row.ok()) return row.status();
  return row->view().Find("n").int_value();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Simulation>> Simulation::Create(
    const SimulationOptions& options) {
  std::unique_ptr<Simulation> simulation(new Simulation);
  Simulation& s = *simulation;
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
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(engine_options);
  if (!engine.ok()) return engine.status();
  s.engine_ = *std::move(engine);
  return simulation;
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

int DefaultThreads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1,
                    256);
}

}  // namespace muster
