// `muster fleet simulate`: simulated gateways, each a process of its own.

#include <signal.h>

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
#include "server/child_process.h"
#include "server/command.h"
#include "server/connect_flags.h"
#include "server/device_flags.h"
#include "server/exit_code.h"
#include "server/flags.h"
#include "server/gateway_figures.h"
#include "server/interrupt.h"
#include "server/progress.h"
#include "server/table.h"
#include "server/text.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
// What the gateways have to end by themselves.
constexpr absl::Duration kEndLimit = absl::Seconds(15);

struct SimulateOptions {
  ConnectFlags connect;
  DeviceFlags device;
  int64_t gateways = 4;
  int64_t devices = 100'000;
  std::string output = "table";
  bool quiet = false;
};

std::vector<Flag> SimulateFlags(SimulateOptions* o) {
  std::vector<Flag> flags = {
      {"gateways", "G", "gateways (4)", IntFlag{&o->gateways, 1, 1000}},
      {"devices", "N",
       "devices of all gateways together (100000): the first\n"
       "of the synthetic fleet",
       IntFlag{&o->devices, 1, 100'000'000}},
      {"output", "FORM",
       "table, for people (default), or json: lines, about one\n"
       "a second",
       ChoiceFlag{&o->output, {"table", "json"}}},
      {"quiet", "", "no progress", &o->quiet},
  };
  return WithConnectFlags(&o->connect,
                          WithDeviceFlags(&o->device, std::move(flags)));
}

struct SimulatedProcess {
  std::string name;
  std::unique_ptr<ChildProcess> process;
  GatewayFigures figures;
  bool lost = false;
};

class Simulator {
 public:
  Simulator(const Command& command, const SimulateOptions& options)
      : command_(command),
        options_(options),
        json_(options.output == "json"),
        connect_(MakeConnectOptions(options.connect)),
        interrupt_(Interrupt::Install()),
        line_(ProgressLine::ModeForStderr(options.quiet || json_)) {}

  int Run() {
    if (absl::Status s = Start(); !s.ok()) {
      Complain(command_, s.message());
      return kExitFailed;
    }
    absl::Duration last_event = clock_.Monotonic();
    while (!interrupt_.pending() && !OutputLost() && Look() > 0) {
      const absl::Duration now = clock_.Monotonic();
      const GatewayFigures sum = Sum();
      const double rate = meter_.Add(now, sum.answers);
      NoteError(sum, &said_, line_);
      line_.Show(now, ProgressOfGateways(
                          absl::StrCat(sum.streams_up, " of ",
                                       Counted(options_.gateways, "gateway")),
                          options_.devices, sum, rate));
      if (now - last_event >= absl::Seconds(1)) {
        last_event = now;
        PrintFleet(sum);
      }
      interrupt_.Wait(kTick);
    }
    End();
    Report();
    return lost_ > 0 ? kExitFailed : kExitOk;
  }

 private:
  absl::Status Start() {
    std::vector<std::string> variables;
    // Where a list of processes does not show it.
    if (!connect_.token.empty()) {
      variables.push_back(absl::StrCat("MUSTER_TOKEN=", connect_.token));
    }
    int64_t first = 0;
    for (int64_t i = 0; i < options_.gateways; ++i) {
      const int64_t count = options_.devices / options_.gateways +
                            (i < options_.devices % options_.gateways ? 1 : 0);
      SimulatedProcess gateway;
      gateway.name = absl::StrCat("sim-", i + 1);
      std::vector<std::string> words = {"fleet",     "gateway",
                                        "--name",    gateway.name,
                                        "--first",   absl::StrCat(first),
                                        "--devices", absl::StrCat(count),
                                        "--output",  "json"};
      for (std::string& word : ConnectWords(connect_)) {
        words.push_back(std::move(word));
      }
      for (std::string& word : DeviceWords(options_.device)) {
        words.push_back(std::move(word));
      }
      absl::StatusOr<std::unique_ptr<ChildProcess>> process =
          ChildProcess::Start(words, variables);
      if (!process.ok()) return process.status();
      gateway.process = *std::move(process);
      gateways_.push_back(std::move(gateway));
      first += count;
    }
    return absl::OkStatus();
  }

  // Takes in what the gateways say; returns how many there are.
  int64_t Look() {
    int64_t running = 0;
    for (SimulatedProcess& gateway : gateways_) {
      // In this order: what it said last is read.
      const bool runs = gateway.process->Runs();
      gateway.process->ReadLines([&](absl::string_view line) {
        absl::StatusOr<GatewayFigures> figures = ParseGatewayFigures(line);
        if (figures.ok()) gateway.figures = *std::move(figures);
      });
      if (runs) {
        ++running;
      } else if (!gateway.lost && !ending_) {
        gateway.lost = true;
        Lost(gateway);
      }
    }
    return running;
  }

  void Lost(SimulatedProcess& gateway) {
    ++lost_;
    // Its calls count, its devices are gone.
    gateway.figures.streams_up = 0;
    gateway.figures.attached = 0;
    gateway.figures.in_flight = 0;
    gateway.figures.error.clear();
    const std::string ending = gateway.process->ending().empty()
                                   ? "by itself"
                                   : gateway.process->ending();
    line_.Note(absl::StrCat("gateway ", gateway.name, " (process ",
                            gateway.process->pid(), ") has ended: ", ending));
    if (!json_) return;
    std::string out;
    JsonWriter json(&out);
    json.BeginObject().Key("event").String("lost");
    json.Key("name").String(gateway.name);
    json.Key("pid").Int(gateway.process->pid());
    json.Key("ending").String(ending).EndObject();
    Print(absl::StrCat(out, "\n"));
  }

  GatewayFigures Sum() const {
    GatewayFigures sum;
    for (const SimulatedProcess& gateway : gateways_) sum.Add(gateway.figures);
    return sum;
  }

  void PrintFleet(const GatewayFigures& sum) {
    if (!json_) return;
    std::string out;
    JsonWriter json(&out);
    json.BeginObject().Key("event").String("fleet");
    json.Key("gateways").Int(options_.gateways);
    json.Key("attachedGateways").Int(sum.streams_up);
    json.Key("lostGateways").Int(lost_);
    json.Key("devices").Int(options_.devices);
    json.Key("attachedDevices").Int(sum.attached);
    json.Key("refusedDevices").Int(sum.refused);
    json.Key("inFlight").Int(sum.in_flight);
    json.Key("calls").Int(sum.calls);
    json.Key("answers").Int(sum.answers);
    json.Key("timeouts").Int(sum.timeouts);
    json.Key("streams").Int(sum.streams);
    json.Key("error").String(sum.error).EndObject();
    Print(absl::StrCat(out, "\n"));
  }

  // Ends the gateways, those that hang too.
  void End() {
    line_.Clear();
    ending_ = true;
    for (SimulatedProcess& gateway : gateways_)
      gateway.process->Signal(SIGTERM);
    const absl::Duration begin = clock_.Monotonic();
    while (Look() > 0 && clock_.Monotonic() - begin < kEndLimit) {
      interrupt_.Wait(kTick / 10);
    }
    for (SimulatedProcess& gateway : gateways_) {
      if (!gateway.process->Runs()) continue;
      Complain(command_, absl::StrCat("gateway ", gateway.name,
                                      " does not end, and is killed"));
      gateway.process->Signal(SIGKILL);
      ++lost_;
    }
  }

  void Report() {
    const GatewayFigures sum = Sum();
    if (json_) {
      PrintFleet(sum);
      return;
    }
    Table table({"GATEWAY", ">DEVICES", ">CALLS", ">ANSWERED", ">TIMED OUT",
                 ">STREAMS", "ENDED"});
    for (const SimulatedProcess& gateway : gateways_) {
      const GatewayFigures& f = gateway.figures;
      table.AddRow({gateway.name, WithCommas(f.devices), WithCommas(f.calls),
                    WithCommas(f.answers), WithCommas(f.timeouts),
                    WithCommas(f.streams), gateway.process->ending()});
    }
    Print(table.Text());
  }

  const Command& command_;
  const SimulateOptions& options_;
  const bool json_;
  const ConnectOptions connect_;
  Clock& clock_ = Clock::Real();
  Interrupt& interrupt_;
  ProgressLine line_;
  RateMeter meter_;
  std::string said_;  // NoteError().
  std::vector<SimulatedProcess> gateways_;
  int64_t lost_ = 0;
  bool ending_ = false;
};

int Simulate(const Command& command, SimulateOptions& options,
             const Arguments&) {
  // What the gateways would say, each by itself.
  if (absl::Status s = ReadDeviceFlags(options.device).status(); !s.ok()) {
    Complain(command, s.message());
    return kExitUsage;
  }
  return Simulator(command, options).Run();
}

}  // namespace

const Command kFleetSimulateCommand = {
    .name = "fleet simulate",
    .summary = "simulated gateways, as processes, for a server",
    .arguments = "[--gateways G] [--devices N] [FLAGS]",
    .about =
        "Starts G processes, each a gateway with its part of the N devices of "
        "the\n"
        "synthetic fleet, whose twins the server must have (muster twin "
        "import). Runs\n"
        "until ctrl-C. A server that is not there or goes away is waited for, "
        "and that is\n"
        "said. A gateway that dies is reported, and the others go on. Exit "
        "codes: 0 ended\n"
        "by ctrl-C, with or without a server; 1 a gateway has died; 2 wrong "
        "arguments or\n"
        "input.\n",
    .example =
        "  muster fleet --devices 100000 | muster twin import -\n"
        "  muster fleet simulate --gateways 4 --devices 100000\n",
    .invoke = MakeInvocation<SimulateOptions, SimulateFlags, Simulate>};

}  // namespace muster
