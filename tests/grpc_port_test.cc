// A port whose connections nobody takes any more: noticed, and told by ending.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/port_watch.h"
#include "tests/service_process.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A port that takes connections when it is told to.
class Port {
 public:
  Port() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = Loopback(0);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
              0);
    EXPECT_EQ(listen(fd_, 16), 0);
    socklen_t size = sizeof(address);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    number_ = ntohs(address.sin_port);
  }
  ~Port() { close(fd_); }

  std::string address() const { return absl::StrCat("127.0.0.1:", number_); }

  // Takes one connection, and ends it when the other side has.
  void TakeOne() {
    const int connection = accept(fd_, nullptr, nullptr);
    EXPECT_GE(connection, 0);
    close(connection);
  }

 private:
  const int fd_;
  int number_ = 0;
};

// What is said in `looks` looks of 200 ms each, up to an error.
absl::Status LookOn(PortWatch& watch, absl::Duration* now, int looks) {
  for (int i = 0; i < looks; ++i) {
    *now += absl::Milliseconds(200);
    if (absl::Status s = watch.Look(*now); !s.ok()) return s;
  }
  return absl::OkStatus();
}

TEST(PortWatchTest, APortThatStopsAnswering) {
  Port port;
  PortWatch watch(port.address());
  absl::Duration now = absl::Seconds(100);
  ASSERT_TRUE(watch.Look(now).ok());
  for (int i = 0; i < 3; ++i) {
    port.TakeOne();
    // The answer, and then the next connection.
    EXPECT_TRUE(LookOn(watch, &now, 1 + 25).ok());
  }
  EXPECT_TRUE(LookOn(watch, &now, 49).ok());
  const absl::Status status = LookOn(watch, &now, 1);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), port.address())) << status;
}

TEST(PortWatchTest, AProcessThatWasStoppedSaysNothing) {
  Port port;
  PortWatch watch(port.address());
  absl::Duration now = absl::Seconds(100);
  ASSERT_TRUE(watch.Look(now).ok());
  port.TakeOne();
  EXPECT_TRUE(LookOn(watch, &now, 1 + 25).ok());
  now += absl::Hours(1);
  EXPECT_TRUE(LookOn(watch, &now, 1).ok());
  port.TakeOne();
  EXPECT_TRUE(LookOn(watch, &now, 1).ok());
}

// Perhaps there is no way from here to there.
TEST(PortWatchTest, APortThatHasNeverAnswered) {
  Port port;
  PortWatch watch(port.address());
  absl::Duration now = absl::Seconds(100);
  EXPECT_TRUE(LookOn(watch, &now, 200).ok());
}

TEST(PortWatchTest, AddressesThatCannotBeLookedUp) {
  for (const char* address : {"unix:/nowhere", "256.1.1.1:1", "", ":"}) {
    PortWatch watch(address);
    absl::Duration now = absl::Seconds(100);
    EXPECT_TRUE(LookOn(watch, &now, 200).ok()) << address;
  }
}

// Ends the server if nobody else does in time.
class Deadline {
 public:
  Deadline(pid_t pid, unsigned seconds) : pid_(fork()) {
    if (pid_ != 0) return;
    sleep(seconds);
    kill(pid, SIGKILL);
    _exit(0);
  }
  ~Deadline() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  const pid_t pid_;
};

// More connections than descriptors: the listener does not come back from that,
// so the server ends, with an error, for whoever watches it to start it again.
TEST(ServeTest, DescriptorsRunOut) {
  ServerProcess server;
  // By the end of this the watch's first connection has been taken.
  EXPECT_EQ(server.Call({"job", "list"}).exit_code, 0);
  const pid_t pid = server.pid();
  const Deadline deadline(pid, 60);
  const auto open = [pid] {
    return std::distance(
        std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd")),
        std::filesystem::directory_iterator());
  };
  rlimit limit = {};
  ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), 0);
  EXPECT_EQ(limit.rlim_cur, limit.rlim_max);
  limit.rlim_cur = static_cast<rlim_t>(open()) + 20;
  ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), 0);
  int port = 0;
  ASSERT_TRUE(absl::SimpleAtoi(absl::string_view(server.address())
                                   .substr(server.address().rfind(':') + 1),
                               &port));
  const sockaddr_in address = Loopback(port);
  std::vector<int> connections;
  for (int i = 0; i < 64; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address),
                      sizeof(address)),
              0);
    connections.push_back(fd);
  }
  while (static_cast<rlim_t>(open()) + 1 < limit.rlim_cur &&
         kill(pid, 0) == 0) {
    usleep(1000);
  }
  for (const int fd : connections) close(fd);
  const Result result = server.End(0);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("takes no connections any more"));
}

// The cost of all queries follows that of one.
TEST(ServeTest, AQueryMayCostMuch) {
  for (const char* cost :
       {"30000000000", "50000000000", "9223372036854775807"}) {
    ServerProcess server({"--query-cost-max", cost});
    EXPECT_EQ(server.End(SIGTERM).exit_code, 0);
  }
}

}  // namespace
}  // namespace muster
