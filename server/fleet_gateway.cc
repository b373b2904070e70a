// `muster fleet gateway`: one gateway with simulated devices.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "server/command.h"
#include "server/connect_flags.h"
#include "server/device_flags.h"
#include "server/exit_code.h"
#include "server/flags.h"
#include "server/gateway_figures.h"
#include "server/interrupt.h"
#include "server/progress.h"
#include "server/simulated_gateway.h"
#include "server/text.h"
#include "transport/grpc/address.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
// Until it is said that there is no server.
constexpr absl::Duration kPatience = absl::Seconds(3);
// Of the simulated devices; the stream has its own.
constexpr int kThreads = 1;

struct GatewayCommandOptions {
  ConnectFlags connect;
  DeviceFlags device;
  std::string listen;
  std::string name = "sim";
  int64_t first = 0;
  int64_t devices = 1000;
  int64_t credit = 65'536;
  std::string output = "table";
  bool quiet = false;
};

std::vector<Flag> GatewayFlags(GatewayCommandOptions* o) {
  std::vector<Flag> flags = {
      {"listen", "HOST:PORT",
       "listens for a server that dials (serve --gateway)\n"
       "instead of dialling one; on this machine, for it is\n"
       "plaintext",
       &o->listen},
      {"name", "NAME", "what it calls itself (sim)", &o->name},
      {"devices", "N", "devices (1000)", IntFlag{&o->devices, 0, 1'000'000}},
      {"first", "ROW",
       "the first one's row in the synthetic fleet (0): the\n"
       "devices are dev-ROW and those that follow",
       IntFlag{&o->first, 0, UINT32_MAX - 1'000'000}},
      {"credit", "N", "calls that it takes without having answered (65536)",
       IntFlag{&o->credit, 1, 1'048'576}},
      {"output", "FORM",
       "table, for people (default), or json: a line of\n"
       "figures five times a second",
       ChoiceFlag{&o->output, {"table", "json"}}},
      {"quiet", "", "no progress", &o->quiet},
  };
  return WithConnectFlags(&o->connect,
                          WithDeviceFlags(&o->device, std::move(flags)));
}

// Why there is no stream, `waited` after the start.
std::string StreamErrorText(const SimulatedGateway& gateway,
                            const GatewayCommandOptions& options,
                            absl::Duration waited) {
  const absl::Status error = gateway.StreamError();
  const bool listens = !options.listen.empty();
  const std::string address = MakeConnectOptions(options.connect).address;
  if (!error.ok()) {
    return listens
               ? std::string(error.message())
               : absl::StrCat("no stream to ", address, ": ", error.message());
  }
  // A host that says nothing at all is given up only after a while.
  if (waited < kPatience) return "";
  return listens ? "no server has dialled yet"
                 : absl::StrCat("no server answers at ", address, " yet");
}

GatewayFigures FiguresOf(const SimulatedGateway& gateway,
                         const GatewayCommandOptions& options,
                         absl::Duration waited) {
  const GatewayStats stats = gateway.Stats();
  GatewayFigures figures;
  figures.streams_up = stats.attached ? 1 : 0;
  figures.devices = stats.devices;
  figures.attached = stats.attached_devices;
  figures.refused = stats.refused_devices;
  figures.in_flight = stats.in_flight;
  figures.calls = stats.calls;
  figures.answers = stats.answers;
  figures.timeouts = stats.timeouts;
  figures.streams = stats.streams;
  if (!stats.attached) {
    figures.error = StreamErrorText(gateway, options, waited);
  } else if (stats.refused_devices > 0) {
    figures.error = std::string(gateway.RefusalError().message());
  }
  return figures;
}

int RunGateway(const Command& command, GatewayCommandOptions& options,
               const Arguments& arguments) {
  if (arguments.Has("listen") && !IsLoopback(options.listen)) {
    return UsageError(command, absl::StrCat("others reach ", options.listen,
                                            ": it is for this machine only"));
  }
  const bool json = options.output == "json";
  SimulatedGatewayOptions gateway_options;
  gateway_options.connect = MakeConnectOptions(options.connect);
  gateway_options.listen = options.listen;
  gateway_options.name = options.name;
  absl::StatusOr<SimulatedDevices> devices = ReadDeviceFlags(options.device);
  if (!devices.ok()) {
    Complain(command, devices.status().message());
    return kExitUsage;
  }
  gateway_options.devices = devices->options;
  gateway_options.first_row = static_cast<uint32_t>(options.first);
  gateway_options.device_count = static_cast<uint32_t>(options.devices);
  gateway_options.work_credit = static_cast<uint32_t>(options.credit);
  Interrupt& interrupt = Interrupt::Install();
  const std::unique_ptr<Executor> executor = MakeThreadExecutor(kThreads);
  gateway_options.executor = executor.get();
  absl::StatusOr<std::unique_ptr<SimulatedGateway>> gateway =
      SimulatedGateway::Start(gateway_options);
  if (!gateway.ok()) {
    Complain(command, gateway.status().message());
    return kExitUsage;
  }
  if (arguments.Has("listen")) {
    const std::string address = WithPort(options.listen, (*gateway)->port());
    std::string out;
    if (json) {
      JsonWriter(&out)
          .BeginObject()
          .Key("event")
          .String("listening")
          .Key("address")
          .String(address)
          .EndObject();
      out.push_back('\n');
    } else {
      out = absl::StrCat("listens at ", address, "\n(", ProgramName(),
                         " serve --gateway ", address, " dials it)\n");
    }
    Print(out);
  }
  Clock& clock = Clock::Real();
  ProgressLine line(ProgressLine::ModeForStderr(options.quiet || json));
  const absl::Duration begin = clock.Monotonic();
  RateMeter meter;
  GatewayFigures figures;
  std::string said;
  while (!interrupt.pending() && !OutputLost()) {
    const absl::Duration now = clock.Monotonic();
    figures = FiguresOf(**gateway, options, now - begin);
    if (json)
      Print(absl::StrCat(GatewayFiguresJson(options.name, figures), "\n"));
    NoteError(figures, &said, line);
    line.Show(now, ProgressOfGateways(options.name, options.devices, figures,
                                      meter.Add(now, figures.answers)));
    interrupt.Wait(kTick);
  }
  (*gateway)->Stop();
  figures = FiguresOf(**gateway, options, clock.Monotonic() - begin);
  line.Clear();
  if (json) {
    Print(absl::StrCat(GatewayFiguresJson(options.name, figures), "\n"));
  } else {
    Print(absl::StrCat(options.name, ": ", Counted(figures.calls, "call"), ", ",
                       WithCommas(figures.answers), " answered, ",
                       WithCommas(figures.timeouts), " timed out\n"));
  }
  return kExitOk;
}

}  // namespace

const Command kFleetGatewayCommand = {
    .name = "fleet gateway",
    .summary = "a gateway with simulated devices, for a server",
    .arguments = "[FLAGS]",
    .about =
        "Attaches to a server as a gateway would, with devices of the "
        "synthetic fleet\n"
        "behind it, whose twins the server must have (muster twin import). "
        "Waits for a\n"
        "server that is not there or goes away, and says so. Exit codes: 0 "
        "ended by\n"
        "ctrl-C, with or without a server; 2 wrong arguments or input.\n",
    .example =
        "  muster fleet --devices 1000 | muster twin import -\n"
        "  muster fleet gateway --devices 1000 --devices-config "
        "examples/devices.json\n",
    .invoke = MakeInvocation<GatewayCommandOptions, GatewayFlags, RunGateway>};

}  // namespace muster
