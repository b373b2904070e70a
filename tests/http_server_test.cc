// The HTTP server, spoken to byte by byte over real sockets: what it answers to
// requests of every form, and what a client can hold of it and for how long.
#include "transport/http/http_server.h"

#include <netdb.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "gtest/gtest.h"
#include "tests/http_client.h"

namespace muster {
namespace {

class FixedClock : public Clock {
 public:
  absl::Time Now() override { return absl::FromUnixSeconds(784'111'777); }
  absl::Duration Monotonic() override { return absl::ZeroDuration(); }
};

// What the handler was asked, as one line and the body.
std::string Echo(const HttpRequest& request) {
  return absl::StrCat(request.method, " ", request.target, " ", request.body);
}

class HttpServerTest : public testing::Test {
 protected:
  void Start(HttpServerOptions options = {}, HttpHandler handler = nullptr) {
    options.listen = "127.0.0.1:0";
    options.clock = &clock_;
    if (handler == nullptr) {
      handler = [this](const HttpRequest& request, HttpReply reply) {
        calls.fetch_add(1);
        std::move(reply)({.body = Echo(request)});
      };
    }
    auto server = HttpServer::Start(options, std::move(handler));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  int port() const { return server_->port(); }

  FixedClock clock_;
  std::atomic<int> calls{0};
  std::unique_ptr<HttpServer> server_;
};

constexpr char kGet[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

TEST_F(HttpServerTest, AResponseIsThisByByte) {
  Start({}, [](const HttpRequest&, HttpReply reply) {
    std::move(reply)({.status = 404,
                      .content_type = "text/x",
                      .headers = {{"X-A", "1"}},
                      .body = "no\n"});
  });
  HttpClient client(port());
  ASSERT_TRUE(
      client.Send("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
  EXPECT_EQ(client.ReadAll(),
            "HTTP/1.1 404 Not Found\r\n"
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
            "Connection: close\r\n"
            "X-A: 1\r\n"
            "Content-Type: text/x\r\n"
            "Content-Length: 3\r\n"
            "\r\n"
            "no\n");
}

TEST_F(HttpServerTest, TheHandlerSeesTheRequest) {
  Start({}, [](const HttpRequest& r, HttpReply reply) {
    std::move(reply)(
        {.body = absl::StrCat(r.method, "|", r.target, "|", r.path(), "|",
                              r.Header("x-TWO"), "|", r.Header("None"), "|",
                              r.headers.size(), "|", r.body)});
  });
  HttpClient client(port());
  ASSERT_TRUE(
      client.Send("PATCH /a%20b/c?d=e?f HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n"
                  "X-Two:  a, b \r\nX-Two: c\r\nContent-Length: 3\r\n\r\nxyz"));
  EXPECT_EQ(client.Read()->body, "PATCH|/a%20b/c?d=e?f|/a%20b/c|a, b||5|xyz");
  // The form that proxies are spoken to in; and the one about no resource.
  ASSERT_TRUE(client.Send("GET HTTP://h:1/p?q HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "GET|/p?q|/p|||1|");
  ASSERT_TRUE(client.Send("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "GET|/|/|||1|");
  ASSERT_TRUE(client.Send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "OPTIONS|*|*|||1|");
}

TEST_F(HttpServerTest, ConnectionsAreKeptAlive) {
  Start();
  HttpClient client(port());
  for (int i = 0; i < 100; ++i) {
    const auto answer = client.Get(absl::StrCat("/", i));
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status_line, "HTTP/1.1 200 OK");
    EXPECT_EQ(answer->headers.count("connection"), 0);
    EXPECT_EQ(answer->body, absl::StrCat("GET /", i, " "));
  }
  ASSERT_TRUE(
      client.Send("GET /b HTTP/1.1\r\nhost: h\r\nconnection: Close\r\n\r\n"
                  // Of no meaning behind that.
                  "GET /c HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto last = client.Read();
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->headers.at("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(calls.load(), 101);
}

TEST_F(HttpServerTest, AnOldClientIsAnsweredInItsVersion) {
  Start();
  {
    HttpClient client(port());
    ASSERT_TRUE(client.Send("GET /a HTTP/1.0\r\n\r\n"));
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status_line, "HTTP/1.0 200 OK");
    EXPECT_EQ(answer->headers.at("connection"), "close");
    EXPECT_TRUE(client.AtEnd());
  }
  HttpClient client(port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        client.Send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    EXPECT_EQ(client.Read()->headers.at("connection"), "keep-alive");
  }
}

TEST_F(HttpServerTest, HeadIsGetWithoutTheBody) {
  Start();
  HttpClient client(port());
  ASSERT_TRUE(client.Send("HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto head = client.Read(/*to_head=*/true);
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->headers.at("content-length"), "10");
  // Nothing of a body is in the way of the next.
  EXPECT_EQ(client.Get("/abc")->body, "GET /abc ");
  // What the server says itself to a HEAD has no body either.
  ASSERT_TRUE(client.Send("HEAD /abc HTTP/1.1\r\n\r\n"));
  const auto refused = client.Read(/*to_head=*/true);
  EXPECT_EQ(refused->status, 400);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(HttpServerTest, NoContentHasNoBody) {
  Start({}, [](const HttpRequest& request, HttpReply reply) {
    std::move(reply)({.status = request.target == "/a" ? 204 : 304,
                      .body = "nobody sees this"});
  });
  HttpClient client(port());
  for (const char* target : {"/a", "/b"}) {
    const auto answer = client.Get(target);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->headers.count("content-length"), 0);
  }
  EXPECT_TRUE(client.unread().empty());
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  HttpClient client(port());
  constexpr int kRequests = 2000;
  std::string requests;
  for (int i = 0; i < kRequests; ++i) {
    const std::string body(static_cast<size_t>(i % 7), 'x');
    absl::StrAppend(&requests, i % 5 == 0 ? "\r\n" : "", "POST /", i,
                    " HTTP/1.1\r\nHost: h\r\nContent-Length: ", body.size(),
                    "\r\n\r\n", body);
  }
  // More than the sockets' buffers hold, perhaps: somebody has to read.
  std::thread sender([&] { EXPECT_TRUE(client.Send(requests)); });
  for (int i = 0; i < kRequests; ++i) {
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value()) << i;
    EXPECT_EQ(answer->body,
              absl::StrCat("POST /", i, " ",
                           std::string(static_cast<size_t>(i % 7), 'x')));
  }
  sender.join();
}

// Answers that come from elsewhere, the first one last.
TEST_F(HttpServerTest, AnAnswerMayComeLaterAndFromAnyThread) {
  absl::Mutex mutex;
  std::vector<std::pair<std::string, HttpReply>> replies;
  Start({}, [&](const HttpRequest& request, HttpReply reply) {
    absl::MutexLock lock(&mutex);
    replies.emplace_back(request.target, std::move(reply));
  });
  HttpClient first(port()), second(port());
  ASSERT_TRUE(first.Send(kGet));
  // Not handled before the one in front of it is answered.
  ASSERT_TRUE(first.Send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto await = [&](size_t count) {
    absl::MutexLock lock(&mutex);
    const auto there = [&] { return replies.size() == count; };
    mutex.Await(absl::Condition(&there));
  };
  await(1);
  ASSERT_TRUE(second.Send("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"));
  await(2);
  EXPECT_EQ(replies[1].first, "/b");
  std::thread([&] { std::move(replies[1].second)({.body = "b"}); }).join();
  EXPECT_EQ(second.Read()->body, "b");
  std::thread([&] { std::move(replies[0].second)({.body = "a"}); }).join();
  EXPECT_EQ(first.Read()->body, "a");
  await(3);
  EXPECT_EQ(replies[2].first, "/next");
  // A reply that is dropped is an answer too.
  replies[2].second = nullptr;
  EXPECT_EQ(first.Read()->status, 500);
  server_->Stop(absl::Seconds(10));
}

TEST_F(HttpServerTest, BodiesComeInEveryFraming) {
  Start();
  HttpClient client(port());
  ASSERT_TRUE(client.Send(
      "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
      "3;name=value\r\nabc\r\n00A\r\n0123456789\r\n0\r\nHost: "
      "trailer\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "PUT /a abc0123456789");
  ASSERT_TRUE(
      client.Send("PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "PUT /b ");
  // Byte by byte.
  for (const char c : absl::string_view("PUT /c HTTP/1.1\r\nHost: h\r\n"
                                        "Content-Length: 5\r\n\r\nhello")) {
    ASSERT_TRUE(client.Send(absl::string_view(&c, 1)));
  }
  EXPECT_EQ(client.Read()->body, "PUT /c hello");
}

TEST_F(HttpServerTest, ABodyIsAskedFor) {
  Start({.body_bytes_max = 10});
  HttpClient client(port());
  ASSERT_TRUE(
      client.Send("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                  "Content-Length: 5\r\n\r\n"));
  EXPECT_EQ(client.Read()->status_line, "HTTP/1.1 100 Continue");
  ASSERT_TRUE(client.Send("hello"));
  EXPECT_EQ(client.Read()->body, "PUT /a hello");
  // Nothing to ask for.
  ASSERT_TRUE(client.Send(
      "GET /b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "GET /b ");
  // One that is too large is refused instead.
  ASSERT_TRUE(
      client.Send("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                  "Content-Length: 11\r\n\r\n"));
  EXPECT_EQ(client.Read()->status, 413);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(HttpServerTest, WhatIsNotAProperRequestIsRefused) {
  Start({.header_bytes_max = 512, .body_bytes_max = 10});
  const struct {
    const char* request;
    int status;
  } kCases[] = {
      {"\x16\x03\x01\x02\r\n\r\n", 400},  // TLS.
      {"hello\r\n\r\n", 400},
      {"GET /\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},  // No Host.
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: h\n\n\r\n\r\n", 505},
      {"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", 501},
      {"get / HTTP/1.1\r\nHost: h\r\n\r\n", 501},
      {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: "
       "99999999999999999999\r\n\r\n",
       400},
      // What one reader takes for a body and another for the next request.
      {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
       "Content-Length: 2\r\n\r\nab",
       400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
       "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
       "Content-Length: 3\r\n\r\n0\r\n\r\n",
       400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\nab", 400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
       "0\r\n\r\n",
       400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
       "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
       400},
      {"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "xyz\r\n",
       400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "2\r\nabc\r\n0\r\n\r\n",
       400},
      {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", 413},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "6\r\n123456\r\n6\r\n",
       413},
      {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "FFFFFFFFFFFFFFFF\r\n",
       413},
      {"PUT / HTTP/1.1\r\nHost: h\r\nExpect: cake\r\nContent-Length: 1\r\n"
       "\r\na",
       417},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.request);
    HttpClient client(port());
    ASSERT_TRUE(client.Send(c.request));
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value()) << client.unread();
    EXPECT_EQ(answer->status, c.status) << answer->body;
    EXPECT_EQ(answer->headers.at("connection"), "close");
    EXPECT_FALSE(answer->body.empty());
    // And no word about what came behind it.
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(calls.load(), 0);
  HttpClient client(port());
  EXPECT_EQ(client.Get("/a")->status, 200);
}

TEST_F(HttpServerTest, TheLimitsAreExact) {
  Start({.header_bytes_max = 1000, .body_bytes_max = 100});
  const auto header = [](size_t size) {
    const std::string start = "PUT / HTTP/1.1\r\nHost: h\r\n";
    const std::string end = "Content-Length: 1\r\n\r\n";
    const size_t rest = size - start.size() - end.size();
    return absl::StrCat(start, "X: ", std::string(rest - 5, 'x'), "\r\n", end);
  };
  {
    HttpClient client(port());
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(header(1000).size(), 1000u);
      ASSERT_TRUE(client.Send(header(1000) + "b"));
      EXPECT_EQ(client.Read()->body, "PUT / b");
    }
    ASSERT_TRUE(client.Send(header(1001) + "b"));
    EXPECT_EQ(client.Read()->status, 431);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    // The first line counts as well, and nobody waits for its end.
    HttpClient client(port());
    ASSERT_TRUE(client.Send("GET /" + std::string(2000, 'a')));
    EXPECT_EQ(client.Read()->status, 431);
  }
  const auto body = [](size_t size) {
    return absl::StrCat("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: ", size,
                        "\r\n\r\n", std::string(size, 'x'));
  };
  HttpClient client(port());
  ASSERT_TRUE(client.Send(body(100)));
  EXPECT_EQ(client.Read()->body.size(), 106u);
  ASSERT_TRUE(client.Send(body(101)));
  EXPECT_EQ(client.Read()->status, 413);
}

// Each of these would be at work for ever.
TEST_F(HttpServerTest, SlowClientsHaveTheirTime) {
  Start({.header_timeout = absl::Milliseconds(50),
         .body_timeout = absl::Milliseconds(50)});
  {
    HttpClient client(port());
    ASSERT_TRUE(client.Send("GET /a HTTP/1.1\r\nHost:"));
    EXPECT_EQ(client.Read()->status, 408);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    // One byte at a time buys no more: slow loris.
    HttpClient client(port());
    ASSERT_TRUE(client.Send("GET /a HTTP/1.1\r\nHost: h\r\nX: "));
    std::atomic<bool> stop{false};
    std::thread trickle([&] {
      while (!stop.load() && client.Send("x")) {
        std::this_thread::yield();
      }
    });
    const auto answer = client.Read();
    stop.store(true);
    trickle.join();
    ASSERT_TRUE(answer.has_value());
    EXPECT_TRUE(answer->status == 408 || answer->status == 431);
  }
  {
    HttpClient client(port());
    ASSERT_TRUE(client.Send(
        "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell"));
    EXPECT_EQ(client.Read()->status, 408);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    // The second request of a connection has the same time.
    HttpClient client(port());
    EXPECT_EQ(client.Get("/a")->status, 200);
    ASSERT_TRUE(client.Send("G"));
    EXPECT_EQ(client.Read()->status, 408);
  }
  EXPECT_EQ(calls.load(), 1);
}

TEST_F(HttpServerTest, AConnectionThatIsNotUsedIsClosed) {
  Start({.idle_timeout = absl::Milliseconds(50)});
  HttpClient never(port());
  EXPECT_TRUE(never.AtEnd());
  HttpClient once(port());
  EXPECT_EQ(once.Get("/a")->status, 200);
  EXPECT_TRUE(once.AtEnd());
}

// Answers the first request that comes without being turned away.
void AwaitRoom(int port) {
  while (true) {
    HttpClient client(port);
    const auto answer = client.Get("/a");
    if (answer.has_value() && answer->status == 200) return;
  }
}

TEST_F(HttpServerTest, WhoDoesNotReadTheAnswerIsCutOff) {
  const std::string large(64 << 20, 'x');
  Start({.connections_max = 1, .write_timeout = absl::Milliseconds(50)},
        [&](const HttpRequest& request, HttpReply reply) {
          std::move(reply)(
              {.body = request.target == "/large" ? large : "small"});
        });
  HttpClient client(port());
  ASSERT_TRUE(client.Send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n"));
  // There is no room for another before it is gone.
  AwaitRoom(port());
  EXPECT_FALSE(client.Read().has_value());
  EXPECT_LT(client.unread().size(), large.size());
}

TEST_F(HttpServerTest, ConnectionsAreLimited) {
  Start({.connections_max = 2});
  {
    HttpClient first(port()), second(port());
    ASSERT_EQ(first.Get("/a")->status, 200);
    ASSERT_EQ(second.Get("/a")->status, 200);
    HttpClient third(port());
    const auto answer = third.Read();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status, 503);
    EXPECT_EQ(answer->body, "too many connections\n");
    EXPECT_TRUE(third.AtEnd());
    EXPECT_EQ(first.Get("/a")->status, 200);
  }
  AwaitRoom(port());
}

TEST_F(HttpServerTest, ClientsThatGoAwayDoNoHarm) {
  Start({.connections_max = 1});
  const std::string whole = absl::StrCat(
      "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
      "Content-Length: 5\r\n\r\nhello");
  for (size_t size = 0; size <= whole.size(); ++size) {
    {
      HttpClient client(port());
      // The one before may still be there.
      client.Send(whole.substr(0, size));
    }
    AwaitRoom(port());
  }
  // One that only stops sending still reads.
  std::optional<HttpAnswer> answer;
  do {
    HttpClient half(port());
    half.Send(kGet);
    half.ShutdownSend();
    answer = half.Read();
  } while (!answer.has_value() || answer->status == 503);
  EXPECT_EQ(answer->status, 200);
}

TEST_F(HttpServerTest, StopLetsRequestsFinish) {
  absl::Notification handling;
  std::optional<HttpReply> pending;
  Start({}, [&](const HttpRequest& request, HttpReply reply) {
    if (request.target == "/slow") {
      pending = std::move(reply);
      handling.Notify();
    } else {
      std::move(reply)({.body = "x"});
    }
  });
  HttpClient idle(port()), used(port()), slow(port()), sending(port());
  EXPECT_EQ(used.Get("/a")->status, 200);
  ASSERT_TRUE(sending.Send("GET /half HTTP/1.1\r\nHos"));
  ASSERT_TRUE(slow.Send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
  handling.WaitForNotification();
  std::thread stop([&] { server_->Stop(absl::Seconds(60)); });
  // Those without a request are closed at once, and no others come.
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(used.AtEnd());
  HttpClient late(port());
  EXPECT_FALSE(late.connected() && late.Get("/a").has_value());
  // Those with one finish it, whoever it is that takes time.
  ASSERT_TRUE(sending.Send("t: h\r\n\r\n"));
  const auto sent = sending.Read();
  ASSERT_TRUE(sent.has_value());
  EXPECT_EQ(sent->headers.at("connection"), "close");
  std::move (*pending)({.body = "slow"});
  const auto answer = slow.Read();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->body, "slow");
  EXPECT_EQ(answer->headers.at("connection"), "close");
  EXPECT_TRUE(slow.AtEnd());
  EXPECT_TRUE(sending.AtEnd());
  stop.join();
  server_->Stop(absl::ZeroDuration());  // Again.
}

TEST_F(HttpServerTest, StopDoesNotWaitForEver) {
  absl::Notification handling;
  std::optional<HttpReply> pending;
  Start({}, [&](const HttpRequest&, HttpReply reply) {
    pending = std::move(reply);
    handling.Notify();
  });
  HttpClient client(port());
  ASSERT_TRUE(client.Send(kGet));
  handling.WaitForNotification();
  server_->Stop(absl::Milliseconds(10));
  EXPECT_TRUE(client.AtEnd());
  server_.reset();
  // Nobody is there to hear it.
  std::move (*pending)({.body = "late"});
}

// Clients ask as fast as they can while the server stops: every request that
// was handled is answered whole, and nobody gets half an answer.
TEST_F(HttpServerTest, StopUnderLoadLosesNoAnswer) {
  for (int round = 0; round < 10; ++round) {
    std::atomic<int> handled{0}, answered{0};
    const std::string body(20'000, 'x');
    Start({}, [&](const HttpRequest&, HttpReply reply) {
      handled.fetch_add(1);
      std::move(reply)({.body = body});
    });
    std::atomic<bool> stop{false};
    std::atomic<int> broken{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 8; ++i) {
      clients.emplace_back([&] {
        while (!stop.load()) {
          HttpClient client(port());
          if (!client.connected()) continue;
          while (true) {
            const auto answer = client.Get("/a");
            if (!answer.has_value()) break;
            if (answer->body == body) answered.fetch_add(1);
          }
          if (!client.unread().empty()) broken.fetch_add(1);
        }
      });
    }
    while (handled.load() < 200) std::this_thread::yield();
    server_->Stop(absl::Seconds(60));
    stop.store(true);
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(answered.load(), handled.load());
    EXPECT_EQ(broken.load(), 0);
    server_.reset();
  }
}

TEST_F(HttpServerTest, OptionsAndAddressesAreChecked) {
  const auto answer = [](const HttpRequest&, HttpReply) {};
  const auto error = [&](const HttpServerOptions& options) {
    const auto server = HttpServer::Start(options, answer);
    return server.ok() ? "OK" : server.status().ToString();
  };
  for (const char* listen : {"", "localhost", ":1", "h:", "h:x", "h:-1",
                             "h:65536", "::1:80", "[::1:80", "[h]:80"}) {
    EXPECT_TRUE(absl::StartsWith(error({.listen = listen}),
                                 "INVALID_ARGUMENT: listen must be"))
        << listen;
  }
  const std::string listen = "127.0.0.1:0";
  EXPECT_EQ(error({.listen = listen, .connections_max = 0}),
            "INVALID_ARGUMENT: connections_max must be in [1, 1000000]; got 0");
  EXPECT_EQ(error({.listen = listen, .header_bytes_max = 255}),
            "INVALID_ARGUMENT: header_bytes_max must be in [256, 1048576]; got "
            "255");
  EXPECT_EQ(error({.listen = listen, .body_bytes_max = (1u << 30) + 1}),
            "INVALID_ARGUMENT: body_bytes_max must be in [0, 1073741824]; got "
            "1073741825");
  EXPECT_EQ(error({.listen = listen, .idle_timeout = absl::ZeroDuration()}),
            "INVALID_ARGUMENT: idle_timeout must be positive; got 0");
  EXPECT_EQ(error({.listen = "[::1]:0"}), "OK");
  // Where there is no file of hosts, as in a bare root, it has no address.
  addrinfo* found = nullptr;
  if (getaddrinfo("localhost", nullptr, nullptr, &found) == 0) {
    freeaddrinfo(found);
    EXPECT_EQ(error({.listen = "localhost:0"}), "OK");
  }
  EXPECT_TRUE(absl::StartsWith(error({.listen = "no.such.host.invalid:1"}),
                               "NOT_FOUND: cannot listen on no.such.host"));
  Start();
  const std::string taken = absl::StrCat("127.0.0.1:", port());
  EXPECT_EQ(error({.listen = taken}),
            absl::StrCat("FAILED_PRECONDITION: cannot listen on ", taken,
                         ": Address already in use"));
}

}  // namespace
}  // namespace muster
