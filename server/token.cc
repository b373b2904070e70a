// `muster token`: makes a shared access signature of a policy's key.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "server/command.h"
#include "server/exit_code.h"
#include "server/files.h"
#include "server/flags.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

constexpr size_t kKeyFileSizeMax = 4096;

struct TokenOptions {
  std::string hub;
  std::string device;
  std::string policy;
  std::string key_file;
  int64_t minutes = 60;
};

std::vector<Flag> TokenFlags(TokenOptions* o) {
  return {
      {"hub", "NAME", "the hub: serve's --hub-name", &o->hub},
      {"policy", "NAME", "the policy, as the access file has it", &o->policy},
      {"key-file", "FILE",
       "one of its keys, base64 (MUSTER_KEY; not a flag's\n"
       "value, which a list of processes would show)",
       &o->key_file},
      {"device", "ID", "good for this device alone", &o->device},
      {"minutes", "N", "how long it is good (60)",
       IntFlag{&o->minutes, 1, 525'600}},
  };
}

int Token(const Command& command, TokenOptions& options,
          const Arguments& arguments) {
  for (absl::string_view name : {"hub", "policy"}) {
    if (!arguments.Has(name)) {
      return UsageError(command, absl::StrCat("--", name, " is missing"));
    }
  }
  std::string key;
  if (arguments.Has("key-file")) {
    absl::StatusOr<std::string> text =
        ReadFile(options.key_file, kKeyFileSizeMax);
    if (!text.ok()) return UsageError(command, text.status().message());
    key = *std::move(text);
  } else if (const char* const value =
                 std::getenv("MUSTER_KEY")) {  // NOLINT(concurrency-mt-unsafe)
    key = value;
  } else {
    return UsageError(command, "the key is missing: --key-file, or MUSTER_KEY");
  }
  absl::StatusOr<SasKey> sas_key =
      SasKey::FromBase64(absl::StripAsciiWhitespace(key));
  if (!sas_key.ok()) return UsageError(command, sas_key.status().message());
  const std::string resource =
      arguments.Has("device")
          ? absl::StrCat(options.hub, "/devices/", options.device)
          : options.hub;
  const absl::Time expires =
      Clock::Real().Now() + absl::Minutes(options.minutes);
  Print(absl::StrCat(sas_key->MakeToken(resource, options.policy, expires),
                     "\n"));
  return kExitOk;
}

}  // namespace

const Command kTokenCommand = {
    .name = "token",
    .summary = "makes a token of a policy's key, for --token",
    .arguments = "--hub NAME --policy NAME --key-file FILE [FLAGS]",
    .about =
        "Prints a shared access signature. It is made here: no server is "
        "asked.\n",
    .example =
        "  export MUSTER_TOKEN=\"$(muster token --hub hub.example.net --policy "
        "console\n"
        "      --key-file console.key)\"\n",
    .invoke = MakeInvocation<TokenOptions, TokenFlags, Token>};

}  // namespace muster
