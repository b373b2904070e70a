#include "server/simulation.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"

namespace muster {
namespace {

// Rows of one page: enough to make the sorting of a page cheap per row, and
// some tens of megabytes.
constexpr int kPageRows = 1'000'000;

// Calls `visit` with the deviceId in every row of the statement.
absl::Status ForEachDeviceId(
    const Engine& engine, absl::string_view statement,
    absl::FunctionRef<void(absl::Span<const absl::string_view>)> visit) {
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

absl::StatusOr<Simulation::Fleet> Simulation::Load(
    const FleetSource& source, ProgressLine& line,
    const std::function<void()>& tick) {
  absl::StatusOr<LoadedFleet> loaded = LoadFleet(*engine_, source, line, tick);
  if (!loaded.ok()) return loaded.status();
  absl::Status added;
  if (connected_as_in_twins_) {
    added = ForEachDeviceId(
        *engine_,
        "SELECT deviceId FROM devices WHERE connectionState = 'Connected'",
        [&](absl::Span<const absl::string_view> ids) {
          devices_->AddDevices(ids, true);
        });
    if (added.ok()) {
      // Those that exist stay as they are.
      added = ForEachDeviceId(
          *engine_,
          "SELECT deviceId FROM devices WHERE connectionState = 'Disconnected'",
          [&](absl::Span<const absl::string_view> ids) {
            devices_->AddDevices(ids, false);
          });
    }
  } else {
    added = ForEachDeviceId(*engine_, "SELECT deviceId FROM devices",
                            [&](absl::Span<const absl::string_view> ids) {
                              devices_->AddDevices(ids);
                            });
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
