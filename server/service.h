// What all commands share that ask a server something: where it is, and the
// form of the answer.
#ifndef SERVER_SERVICE_H_
#define SERVER_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/command.h"
#include "server/connect_flags.h"
#include "server/flags.h"
#include "transport/grpc/client.h"

namespace muster {

struct ServiceFlags {
  ConnectFlags connect;
  std::string output = "table";
};

// `flags`, and behind them those of `o`.
std::vector<Flag> WithServiceFlags(ServiceFlags* o, std::vector<Flag> flags);

// One command's dealings with a server.
class Service {
 public:
  Service(const Command& command, const ServiceFlags& flags);

  // kExitOk, or what was wrong with the flags, which it has said then.
  int Connect();

  // REQUIRES: Connect() was kExitOk.
  MusterClient& client() { return *client_; }
  bool json() const { return json_; }

  // ComplainAboutCall().
  int Fail(const absl::Status& error, absl::string_view text = "") const;

 private:
  const Command& command_;
  const bool json_;
  const ConnectOptions options_;
  std::unique_ptr<MusterClient> client_;
};

}  // namespace muster

#endif  // SERVER_SERVICE_H_
