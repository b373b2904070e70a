// Where the server is, and what is shown to it: flags that all commands share
// which speak to one.
#ifndef SERVER_CONNECT_FLAGS_H_
#define SERVER_CONNECT_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/command.h"
#include "server/flags.h"
#include "transport/grpc/channel.h"

namespace muster {

// Where `muster serve` listens and all others look if nobody says otherwise.
inline constexpr char kServerDefault[] = "127.0.0.1:7040";

// A variable of the environment; "" if there is none.  Not to be called when
// there are other threads.
std::string OfEnvironment(const char* name);

struct ConnectFlags {
  std::string server;
  std::string token;
  bool tls = false;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_name;
};

// `flags`, and behind them those of `o`.
std::vector<Flag> WithConnectFlags(ConnectFlags* o, std::vector<Flag> flags);

// What is not given is taken from the environment: MUSTER_SERVER and
// MUSTER_TOKEN, or else left at its default.
ConnectOptions MakeConnectOptions(const ConnectFlags& flags);

// The same as words of a command line, without the token.
std::vector<std::string> ConnectWords(const ConnectOptions& options);

// Prints what a call to the server has met, and what might help.  Returns
// kExitUnreachable if there is no server, or none has answered in time;
// kExitUsage if it refuses what the caller has written; kExitFailed for
// anything else.  `text` is what a query's error may point into.
int ComplainAboutCall(const Command& command, const ConnectOptions& connect,
                      const absl::Status& error, absl::string_view text = "");

}  // namespace muster

#endif  // SERVER_CONNECT_FLAGS_H_
