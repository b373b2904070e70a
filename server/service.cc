#include "server/service.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/exit_code.h"

namespace muster {
namespace {

// Somebody waits at the keyboard.
constexpr absl::Duration kConnectTimeout = absl::Seconds(3);

ConnectOptions OptionsOf(const ServiceFlags& flags) {
  ConnectOptions options = MakeConnectOptions(flags.connect);
  options.connect_timeout = kConnectTimeout;
  return options;
}

}  // namespace

std::vector<Flag> WithServiceFlags(ServiceFlags* o, std::vector<Flag> flags) {
  flags.push_back({"output", "FORM",
                   "table, for people (default), or json: one object on\n"
                   "each line",
                   ChoiceFlag{&o->output, {"table", "json"}}});
  return WithConnectFlags(&o->connect, std::move(flags));
}

Service::Service(const Command& command, const ServiceFlags& flags)
    : command_(command),
      json_(flags.output == "json"),
      options_(OptionsOf(flags)) {}

int Service::Connect() {
  absl::StatusOr<std::unique_ptr<MusterClient>> client =
      MusterClient::Connect(options_);
  if (!client.ok()) {
    Complain(command_, client.status().message());
    return kExitUsage;
  }
  client_ = *std::move(client);
  return kExitOk;
}

int Service::Fail(const absl::Status& error, absl::string_view text) const {
  return ComplainAboutCall(command_, options_, error, text);
}

}  // namespace muster
