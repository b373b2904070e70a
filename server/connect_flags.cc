#include "server/connect_flags.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/caret.h"
#include "server/exit_code.h"
#include "server/text.h"

namespace muster {
namespace {

// What a server says carries details; what gRPC says by itself does not.
bool IsOfServer(const absl::Status& error) {
  bool has_details = false;
  error.ForEachPayload(
      [&](absl::string_view, const absl::Cord&) { has_details = true; });
  return has_details;
}

}  // namespace

std::string OfEnvironment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

std::vector<Flag> WithConnectFlags(ConnectFlags* o, std::vector<Flag> flags) {
  for (const Flag& flag : {
           Flag{"server", "HOST:PORT",
                "where the server is (MUSTER_SERVER, or else\n"
                "127.0.0.1:7040)",
                &o->server},
           Flag{"token", "TOKEN",
                "a bearer token, or a shared access signature\n"
                "(MUSTER_TOKEN: there nobody sees it in a list of\n"
                "processes)",
                &o->token},
           Flag{"tls", "",
                "the server speaks TLS; the other --tls flags say so\n"
                "too",
                &o->tls},
           Flag{"tls-ca", "FILE",
                "who has to have signed the server's certificate (the\n"
                "system's authorities)",
                &o->tls_ca},
           Flag{"tls-cert", "FILE", "this client's certificate", &o->tls_cert},
           Flag{"tls-key", "FILE", "and its key", &o->tls_key},
           Flag{"tls-name", "NAME",
                "what the server's certificate is for (the host of\n"
                "--server)",
                &o->tls_name},
       }) {
    flags.push_back(flag);
  }
  return flags;
}

ConnectOptions MakeConnectOptions(const ConnectFlags& flags) {
  ConnectOptions options;
  options.address =
      flags.server.empty() ? OfEnvironment("MUSTER_SERVER") : flags.server;
  if (options.address.empty()) options.address = kServerDefault;
  options.token =
      flags.token.empty() ? OfEnvironment("MUSTER_TOKEN") : flags.token;
  options.ca_path = flags.tls_ca;
  options.certificate_path = flags.tls_cert;
  options.key_path = flags.tls_key;
  options.server_name = flags.tls_name;
  options.tls = flags.tls || !flags.tls_ca.empty() || !flags.tls_cert.empty() ||
                !flags.tls_key.empty() || !flags.tls_name.empty();
  return options;
}

std::vector<std::string> ConnectWords(const ConnectOptions& options) {
  std::vector<std::string> words = {"--server", options.address};
  if (options.tls) words.emplace_back("--tls");
  for (const auto& [flag, value] :
       {std::pair("--tls-ca", &options.ca_path),
        std::pair("--tls-cert", &options.certificate_path),
        std::pair("--tls-key", &options.key_path),
        std::pair("--tls-name", &options.server_name)}) {
    if (value->empty()) continue;
    words.emplace_back(flag);
    words.push_back(*value);
  }
  return words;
}

int ComplainAboutCall(const Command& command, const ConnectOptions& connect,
                      const absl::Status& error, absl::string_view text) {
  if (!IsOfServer(error) && absl::IsDeadlineExceeded(error)) {
    Complain(
        command,
        absl::StrCat("the server at ", connect.address, " has not answered in ",
                     ShortDuration(connect.timeout)),
        "(it is there; what it was asked to do may be done still)\n");
    return kExitUnreachable;
  }
  if (!IsOfServer(error) && absl::IsUnavailable(error)) {
    Complain(command, absl::StrCat("no server answers at ", connect.address),
             absl::StrCat(
                 "  ", error.message(), "\n(start one with: ", ProgramName(),
                 " serve --listen ", connect.address,
                 " --data DIR\n or say where it is: --server "
                 "HOST:PORT, or MUSTER_SERVER",
                 connect.tls ? "" : "; with --tls if it speaks TLS", ")\n"));
    return kExitUnreachable;
  }
  std::string more = CaretLines(error, text);
  if (absl::IsUnauthenticated(error)) {
    absl::StrAppend(&more, "(--token or MUSTER_TOKEN says who calls; ",
                    ProgramName(), " token makes one of a policy's key)\n");
  }
  Complain(command, DescribeError(error), more);
  return absl::IsInvalidArgument(error) ? kExitUsage : kExitFailed;
}

}  // namespace muster
