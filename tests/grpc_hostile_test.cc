// Clients that mean no good, or know no better, on bare sockets: connections
// that say nothing or say it byte by byte, calls that never come to their end,
// messages and metadata beyond all measure.  They are ended, and meanwhile
// nobody else is held up.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "tests/grpc_fixture.h"
#include "tests/test_certificates.h"

namespace muster {
namespace {

constexpr absl::Duration kShort = absl::Milliseconds(200);
// How long a test waits before it calls something that should end endless.
constexpr int kPatienceSeconds = 30;

// HTTP/2 (RFC 9113), as far as it is needed.
constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
};
constexpr uint8_t kEndStream = 1;  // Of kData and kHeaders.
constexpr uint8_t kAck = 1;        // Of kSettings and kPing.
constexpr uint8_t kEndHeaders = 4;

std::string BigEndian(uint32_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) {
    out.push_back(static_cast<char>(value >> (8 * i)));
  }
  return out;
}

std::string EncodeFrame(FrameType type, uint8_t flags, uint32_t stream,
                        absl::string_view payload) {
  return absl::StrCat(BigEndian(static_cast<uint32_t>(payload.size()), 3),
                      BigEndian(type, 1), BigEndian(flags, 1),
                      BigEndian(stream, 4), payload);
}

// The headers of a call, each a literal that is not to be remembered (RFC 7541,
// 6.2.2).
std::string Headers(absl::string_view path) {
  std::string out;
  for (const auto& [name, value] :
       std::initializer_list<std::pair<absl::string_view, absl::string_view>>{
           {":method", "POST"},
           {":scheme", "http"},
           {":path", path},
           {":authority", "localhost"},
           {"te", "trailers"},
           {"content-type", "application/grpc"}}) {
    MUSTER_CHECK(name.size() < 127 && value.size() < 127);
    absl::StrAppend(&out, BigEndian(0, 1),
                    BigEndian(static_cast<uint32_t>(name.size()), 1), name,
                    BigEndian(static_cast<uint32_t>(value.size()), 1), value);
  }
  return out;
}

// What stands before a message's bytes.
std::string MessageHead(uint32_t size) {
  return absl::StrCat(BigEndian(0, 1), BigEndian(size, 4));
}

class Socket {
 public:
  explicit Socket(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    MUSTER_CHECK(fd_ >= 0);
    const timeval patience = {.tv_sec = kPatienceSeconds, .tv_usec = 0};
    MUSTER_CHECK(::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience,
                              sizeof(patience)) == 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUSTER_CHECK(::connect(fd_, reinterpret_cast<sockaddr*>(&address),
                           sizeof(address)) == 0);
  }
  ~Socket() { ::close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // False once the other side has closed.
  bool Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent =
          ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // One byte after the other, until all are out or the other side has closed.
  void Drip(absl::string_view bytes) {
    for (const char c : bytes) {
      pollfd closed = {.fd = fd_, .events = POLLRDHUP, .revents = 0};
      if (::poll(&closed, 1, /*timeout=*/20) != 0) return;
      if (!Send(absl::string_view(&c, 1))) return;
    }
  }

  // Exactly so many bytes; nullopt once the other side has closed, or after
  // kPatienceSeconds, which is a failure.
  std::optional<std::string> Receive(size_t size) {
    std::string bytes(size, '\0');
    for (size_t at = 0; at < size;) {
      const ssize_t got = ::recv(fd_, &bytes[at], size - at, 0);
      if (got < 0) {
        EXPECT_NE(errno, EAGAIN) << "nothing came, and nobody closed";
      }
      if (got <= 0) return std::nullopt;
      at += static_cast<size_t>(got);
    }
    return bytes;
  }

  // Reads until the other side closes.
  void AwaitClose() {
    while (Receive(1).has_value()) {
    }
  }

 private:
  const int fd_;
};

// A connection beyond what HTTP/2 begins with: settings are agreed.
class Http2 {
 public:
  explicit Http2(int port) : socket_(port) {
    MUSTER_CHECK(socket_.Send(kPreface) &&
                 socket_.Send(EncodeFrame(kSettings, 0, 0, "")));
    std::optional<Frame> frame = Read();
    while (frame.has_value() && frame->type != kSettings) frame = Read();
    MUSTER_CHECK(frame.has_value());
    MUSTER_CHECK(socket_.Send(EncodeFrame(kSettings, kAck, 0, "")));
  }

  Socket& socket() { return socket_; }

  // The head of a call; stream ids are odd and ascend.
  void Call(uint32_t stream, absl::string_view path) {
    MUSTER_CHECK(socket_.Send(
        EncodeFrame(kHeaders, kEndHeaders, stream, Headers(path))));
  }
  void Data(uint32_t stream, absl::string_view bytes) {
    MUSTER_CHECK(socket_.Send(EncodeFrame(kData, 0, stream, bytes)));
  }

  // Reads, and answers pings, until the server ends the call; false if it
  // closes the connection instead.
  bool AwaitEnd(uint32_t stream) {
    while (const std::optional<Frame> frame = Read()) {
      const uint8_t flags = frame->flags;
      if (frame->type == kPing && (flags & kAck) == 0) {
        socket_.Send(EncodeFrame(kPing, kAck, 0, frame->payload));
      }
      if (frame->stream != stream) continue;
      if (frame->type == kResetStream) return true;
      if ((frame->type == kHeaders || frame->type == kData) &&
          (flags & kEndStream) != 0) {
        return true;
      }
    }
    return false;
  }

 private:
  struct Frame {
    uint8_t type;
    uint8_t flags;
    uint32_t stream;
    std::string payload;
  };

  std::optional<Frame> Read() {
    const std::optional<std::string> head = socket_.Receive(9);
    if (!head.has_value()) return std::nullopt;
    const auto number = [&head](size_t at, size_t size) {
      uint32_t value = 0;
      for (const char c : head->substr(at, size)) {
        value = value << 8 | static_cast<uint8_t>(c);
      }
      return value;
    };
    std::optional<std::string> payload = socket_.Receive(number(0, 3));
    if (!payload.has_value()) return std::nullopt;
    return Frame{.type = static_cast<uint8_t>(number(3, 1)),
                 .flags = static_cast<uint8_t>(number(4, 1)),
                 .stream = number(5, 4),
                 .payload = *std::move(payload)};
  }

  Socket socket_;
};

GrpcServerOptions Impatient() {
  GrpcServerOptions options;
  options.handshake_timeout = kShort;
  options.stream_idle_timeout = kShort;
  return options;
}

void ExpectServes(const GrpcHub& hub) {
  const absl::Status status = hub.NewClient()->ListJobs({}).status();
  EXPECT_TRUE(status.ok()) << status;
}

int64_t UnderWay(GrpcHub& hub) {
  int64_t count = 0;
  for (const int64_t kind : hub.guard().Stats().under_way) count += kind;
  return count;
}

// A call is counted until the server has put it away, which its client does not
// see.
void AwaitNobody(GrpcHub& hub) {
  while (UnderWay(hub) > 0) std::this_thread::yield();
}

// -------------------------------------------------------------- connections

TEST(GrpcHostileTest, ConnectionsThatSayNothing) {
  GrpcHub hub(Impatient());
  std::vector<std::unique_ptr<Socket>> sockets;
  for (int i = 0; i < 100; ++i) {
    sockets.push_back(std::make_unique<Socket>(hub.server().ports()[0]));
  }
  ExpectServes(hub);
  for (const auto& socket : sockets) socket->AwaitClose();
}

TEST(GrpcHostileTest, ConnectionsThatSayItByteByByte) {
  GrpcHub hub(Impatient());
  Socket socket(hub.server().ports()[0]);
  socket.Drip(kPreface);
  socket.AwaitClose();
  ExpectServes(hub);
}

TEST(GrpcHostileTest, TlsByteByByte) {
  TestAuthority authority("hostile");
  const TestCertificate own =
      authority.Issue({.alternative_names = "IP:127.0.0.1"});
  GrpcServerOptions options = Impatient();
  options.tls.certificate_path = own.certificate_path;
  options.tls.key_path = own.key_path;
  GrpcHub hub(options);
  // The head of a record with a ClientHello that never comes.
  Socket socket(hub.server().ports()[0]);
  socket.Drip(absl::StrCat(BigEndian(0x160301, 3), BigEndian(200, 2),
                           BigEndian(1, 1), std::string(30, '\0')));
  socket.AwaitClose();
}

TEST(GrpcHostileTest, OtherProtocols) {
  GrpcHub hub(Impatient());
  for (const absl::string_view text :
       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02",
        "SSH-2.0-x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx"}) {
    Socket socket(hub.server().ports()[0]);
    socket.Send(text);
    socket.AwaitClose();
  }
  ExpectServes(hub);
}

TEST(GrpcHostileTest, ConnectionsThatHaveFallenSilent) {
  GrpcServerOptions options;
  options.keepalive_time = kShort;
  options.keepalive_timeout = kShort;
  GrpcHub hub(options);
  // It has a call under way, and answers no ping.
  Http2 silent(hub.server().ports()[0]);
  silent.Call(1, "/muster.v1.TwinService/ImportTwins");
  silent.socket().AwaitClose();
}

// --------------------------------------------------------------------- calls

TEST(GrpcHostileTest, CallsThatNeverComeToTheirEnd) {
  GrpcServerOptions options;
  options.threads = 2;
  GrpcHub hub(options);
  std::vector<std::unique_ptr<Http2>> connections;
  for (int i = 0; i < 50; ++i) {
    connections.push_back(std::make_unique<Http2>(hub.server().ports()[0]));
    Http2& connection = *connections.back();
    uint32_t stream = 1;
    for (const absl::string_view path :
         {"/muster.v1.JobService/CreateJob", "/muster.v1.JobService/WatchJob",
          "/muster.v1.TwinService/QueryTwins"}) {
      connection.Call(stream, path);
      connection.Data(stream, absl::StrCat(MessageHead(1000), "begun"));
      stream += 2;
    }
  }
  // They hold neither threads nor anybody's place.
  ExpectServes(hub);
  EXPECT_EQ(UnderWay(hub), 0);
  connections.clear();
  ExpectServes(hub);
}

TEST(GrpcHostileTest, ImportsByteByByte) {
  GrpcHub hub(Impatient());
  Http2 connection(hub.server().ports()[0]);
  connection.Call(1, "/muster.v1.TwinService/ImportTwins");
  connection.Data(1, absl::StrCat(MessageHead(1000), "begun"));
  EXPECT_TRUE(connection.AwaitEnd(1));
  AwaitNobody(hub);

  // The same with words: a client that sends nothing.
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto stub = hub.Twins();
  const auto stream = stub->ImportTwins(&context, &response);
  EXPECT_EQ(stream->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
}

TEST(GrpcHostileTest, CallsBeyondTheLimitOfAConnection) {
  GrpcServerOptions options;
  options.streams_per_connection_max = 2;
  GrpcHub hub(options);
  Http2 connection(hub.server().ports()[0]);
  for (const uint32_t stream : {1, 3, 5}) {
    connection.Call(stream, "/muster.v1.TwinService/ImportTwins");
  }
  // The client has agreed to the limit: that is no way to keep it.
  connection.AwaitEnd(5);
  EXPECT_LE(UnderWay(hub), 2);
  ExpectServes(hub);
}

// ---------------------------------------------------------- sizes

constexpr int kMessageMax = 64 << 10;

GrpcServerOptions Small() {
  GrpcServerOptions options;
  options.message_size_max = kMessageMax;
  options.metadata_size_max = 4 << 10;
  return options;
}

TEST(GrpcHostileTest, MessagesBeyondTheLimit) {
  GrpcHub hub(Small());
  // One channel: the connection outlives what it has refused.
  const auto channel = hub.Channel();
  const auto jobs = v1::JobService::NewStub(channel);
  const auto twins = v1::TwinService::NewStub(channel);
  for (int i = 0; i < 3; ++i) {
    v1::GetJobRequest get;
    v1::Job job;
    // Tag and length of the field take 4 bytes.
    for (const auto& [size, code] :
         {std::pair(kMessageMax - 4, grpc::StatusCode::INVALID_ARGUMENT),
          std::pair(kMessageMax - 3, grpc::StatusCode::RESOURCE_EXHAUSTED),
          std::pair(4 << 20, grpc::StatusCode::RESOURCE_EXHAUSTED)}) {
      get.set_name(std::string(static_cast<size_t>(size), 'x'));
      grpc::ClientContext context;
      EXPECT_EQ(jobs->GetJob(&context, get, &job).error_code(), code) << size;
    }
    grpc::ClientContext context;
    v1::ImportTwinsResponse response;
    v1::ImportTwinsRequest request;
    const auto stream = twins->ImportTwins(&context, &response);
    request.add_documents(R"({"deviceId":"small"})");
    EXPECT_TRUE(stream->Write(request));
    request.add_documents(absl::StrCat(R"({"deviceId":"large","tags":{"a":")",
                                       std::string(kMessageMax, 'x'),
                                       R"("}})"));
    stream->Write(request);
    stream->WritesDone();
    EXPECT_EQ(stream->Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_FALSE(hub.engine().GetTwin("large").ok());
  }
  AwaitNobody(hub);
}

// A length alone takes no memory, and holds up nobody.
TEST(GrpcHostileTest, MessagesThatAnnounceGigabytes) {
  GrpcHub hub(Small());
  auto connection = std::make_unique<Http2>(hub.server().ports()[0]);
  uint32_t stream = 1;
  for (int i = 0; i < 100; ++i) {
    for (const absl::string_view path :
         {"/muster.v1.JobService/GetJob",
          "/muster.v1.TwinService/ImportTwins"}) {
      connection->Call(stream, path);
      connection->Data(stream, absl::StrCat(MessageHead(UINT32_MAX), "begun"));
      stream += 2;
    }
  }
  ExpectServes(hub);
  connection.reset();
  AwaitNobody(hub);
}

TEST(GrpcHostileTest, MetadataBeyondTheLimit) {
  GrpcHub hub(Small());
  const auto jobs = hub.Jobs();
  for (const auto& [size, code] :
       {std::pair(1000, grpc::StatusCode::OK),
        std::pair(20'000, grpc::StatusCode::RESOURCE_EXHAUSTED)}) {
    grpc::ClientContext context;
    context.AddMetadata("authorization",
                        std::string(static_cast<size_t>(size), 'x'));
    v1::ListJobsResponse response;
    EXPECT_EQ(jobs->ListJobs(&context, {}, &response).error_code(), code)
        << size;
  }
  ExpectServes(hub);
}

}  // namespace
}  // namespace muster
