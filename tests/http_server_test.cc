// The HTTP server, spoken to byte by byte over real sockets: what it answers to
// requests of every form, and what a client can hold of it and for how long.
#include "transport/http/http_server.h"

#include <netdb.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "gtest/gtest.h"
#include "openssl/bio.h"
#include "openssl/ssl.h"
#include "tests/http_client.h"
#include "tests/test_certificates.h"
#include "transport/http/self_signed.h"

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

// What is spoken below HTTP.
enum class Below { kTcp, kTls12, kTls13 };

// An authority, and what the server shows of it.
struct Certificates {
  TestAuthority authority{"authority"};
  TestCertificate server =
      authority.Issue({.alternative_names = "DNS:localhost,IP:127.0.0.1"});
  HttpTls tls{server.certificate_path, server.key_path};
};

const Certificates& SharedCertificates() {
  static const Certificates* const certificates = new Certificates;
  return *certificates;
}

class HttpServerTest : public testing::TestWithParam<Below> {
 protected:
  HttpServerTest() {
    if (GetParam() == Below::kTcp) return;
    tls_ = ClientTls(SharedCertificates().authority.path());
    const int version =
        GetParam() == Below::kTls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX_set_min_proto_version(tls_.get(), version);
    SSL_CTX_set_max_proto_version(tls_.get(), version);
  }

  void Start(HttpServerOptions options = {}, HttpHandler handler = nullptr) {
    if (handler == nullptr) {
      handler = [this](const HttpRequest& request, HttpReply reply) {
        calls.fetch_add(1);
        std::move(reply)({.body = Echo(request)});
      };
    }
    Listen(std::move(options), std::move(handler));
  }
  // Answerer: an HttpAdmit or an HttpHandler.
  template <typename Answerer>
  void Listen(HttpServerOptions options, Answerer answerer) {
    options.listen = "127.0.0.1:0";
    options.clock = &clock_;
    if (tls_ != nullptr) options.tls = SharedCertificates().tls;
    auto server = HttpServer::Start(options, std::move(answerer));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  int port() const { return server_->port(); }
  // For a client of the server.
  const std::shared_ptr<SSL_CTX>& tls() const { return tls_; }

  FixedClock clock_;
  std::shared_ptr<SSL_CTX> tls_;
  std::atomic<int> calls{0};
  std::unique_ptr<HttpServer> server_;
};

std::string NameOf(const testing::TestParamInfo<Below>& info) {
  if (info.param == Below::kTcp) return "Tcp";
  return info.param == Below::kTls12 ? "Tls12" : "Tls13";
}

INSTANTIATE_TEST_SUITE_P(All, HttpServerTest,
                         testing::Values(Below::kTcp, Below::kTls12,
                                         Below::kTls13),
                         NameOf);

constexpr char kGet[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

TEST_P(HttpServerTest, AResponseIsThisByByte) {
  Start({}, [](const HttpRequest&, HttpReply reply) {
    std::move(reply)({.status = 404,
                      .content_type = "text/x",
                      .headers = {{"X-A", "1"}},
                      .body = "no\n"});
  });
  HttpClient client(port(), tls());
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

TEST_P(HttpServerTest, TheHandlerSeesTheRequest) {
  Start({}, [](const HttpRequest& r, HttpReply reply) {
    std::move(reply)(
        {.body = absl::StrCat(r.method, "|", r.target, "|", r.path(), "|",
                              r.Header("x-TWO"), "|", r.Header("None"), "|",
                              r.headers.size(), "|", r.body)});
  });
  HttpClient client(port(), tls());
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
  // Which methods there are is the handler's to know, and letters count.
  ASSERT_TRUE(
      client.Send("BREW /pot HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
                  "\r\nx"));
  EXPECT_EQ(client.Read()->body, "BREW|/pot|/pot|||2|x");
  ASSERT_TRUE(client.Send("get /a HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.Read()->body, "get|/a|/a|||1|");
}

TEST_P(HttpServerTest, ConnectionsAreKeptAlive) {
  Start();
  HttpClient client(port(), tls());
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

TEST_P(HttpServerTest, AnOldClientIsAnsweredInItsVersion) {
  Start();
  {
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send("GET /a HTTP/1.0\r\n\r\n"));
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status_line, "HTTP/1.0 200 OK");
    EXPECT_EQ(answer->headers.at("connection"), "close");
    EXPECT_TRUE(client.AtEnd());
  }
  HttpClient client(port(), tls());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        client.Send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    EXPECT_EQ(client.Read()->headers.at("connection"), "keep-alive");
  }
}

TEST_P(HttpServerTest, HeadIsGetWithoutTheBody) {
  Start();
  HttpClient client(port(), tls());
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

TEST_P(HttpServerTest, NoContentHasNoBody) {
  Start({}, [](const HttpRequest& request, HttpReply reply) {
    std::move(reply)({.status = request.target == "/a" ? 204 : 304,
                      .body = "nobody sees this"});
  });
  HttpClient client(port(), tls());
  for (const char* target : {"/a", "/b"}) {
    const auto answer = client.Get(target);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->headers.count("content-length"), 0);
  }
  EXPECT_TRUE(client.unread().empty());
}

TEST_P(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  HttpClient client(port(), tls());
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
TEST_P(HttpServerTest, AnAnswerMayComeLaterAndFromAnyThread) {
  absl::Mutex mutex;
  std::vector<std::pair<std::string, HttpReply>> replies;
  Start({}, [&](const HttpRequest& request, HttpReply reply) {
    absl::MutexLock lock(&mutex);
    replies.emplace_back(request.target, std::move(reply));
  });
  HttpClient first(port(), tls()), second(port(), tls());
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

TEST_P(HttpServerTest, BodiesComeInEveryFraming) {
  Start();
  HttpClient client(port(), tls());
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

TEST_P(HttpServerTest, ABodyIsAskedFor) {
  Start({.body_bytes_max = 10});
  HttpClient client(port(), tls());
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

TEST_P(HttpServerTest, ARequestIsAdmittedByItsHeader) {
  std::atomic<int> admitted{0};
  Listen({.body_bytes_max = 1000},
         [&](const HttpRequest& header) -> HttpAdmission {
           EXPECT_EQ(header.body, "");
           if (header.Header("Authorization") != "yes") {
             return HttpResponse{.status = 401, .body = "who?"};
           }
           admitted.fetch_add(1);
           HttpAdmitted how;
           how.body_bytes_max = header.target == "/much" ? 5000 : 10;
           how.handle = [found = std::string("found")](HttpRequest request,
                                                       HttpReply reply) {
             std::move(reply)({.body = absl::StrCat(found, Echo(request))});
           };
           return how;
         });
  const auto put = [](absl::string_view target, absl::string_view fields,
                      absl::string_view rest) {
    return absl::StrCat("PUT ", target, " HTTP/1.1\r\nHost: h\r\n", fields,
                        "\r\n\r\n", rest);
  };
  const std::string yes = "Authorization: yes\r\n";
  {
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send(put("/a", yes + "Content-Length: 3", "abc")));
    EXPECT_EQ(client.Read()->body, "foundPUT /a abc");
    ASSERT_TRUE(client.Send(put("/a", yes + "Transfer-Encoding: chunked",
                                "3\r\nabc\r\n0\r\n\r\n")));
    EXPECT_EQ(client.Read()->body, "foundPUT /a abc");
    ASSERT_TRUE(client.Send(
        put("/much", yes + "Content-Length: 1000", std::string(1000, 'x'))));
    EXPECT_EQ(client.Read()->body.size(), 15u + 1000u);
    // A body that has come with its header is in nobody's way.
    ASSERT_TRUE(client.Send(put("/a", "Content-Length: 3", "abc")));
    EXPECT_EQ(client.Read()->status, 401);
    EXPECT_EQ(client.Get("/a")->status, 401);
    ASSERT_TRUE(client.Send(put("/a", yes + "Content-Length: 0", "")));
    EXPECT_EQ(client.Read()->body, "foundPUT /a ");
  }
  EXPECT_EQ(admitted.load(), 4);
  // A body that would have to be read first is not.
  for (const char* fields :
       {"Content-Length: 1000", "Transfer-Encoding: chunked",
        "Expect: 100-continue\r\nContent-Length: 5"}) {
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send(put("/much", fields, "")));
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value()) << fields;
    EXPECT_EQ(answer->status, 401) << fields;
    EXPECT_EQ(answer->headers.at("connection"), "close");
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(admitted.load(), 4);
  // The request's own limit, and the server's.
  for (const std::string& request :
       {put("/a", yes + "Content-Length: 11", ""),
        put("/a", yes + "Transfer-Encoding: chunked", "B\r\n"),
        put("/a", yes + "Transfer-Encoding: chunked",
            "9\r\n123456789\r\n2\r\n"),
        put("/much", yes + "Content-Length: 1001", ""),
        put("/much", yes + "Transfer-Encoding: chunked", "3e9\r\n")}) {
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send(request));
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value()) << request;
    EXPECT_EQ(answer->status, 413) << request;
    EXPECT_TRUE(client.AtEnd());
  }
}

TEST_P(HttpServerTest, BodiesTogetherAreLimited) {
  absl::Mutex mutex;
  std::vector<HttpReply> replies;
  Start({.body_bytes_max = 100, .bodies_bytes_max = 250},
        [&](const HttpRequest&, HttpReply reply) {
          absl::MutexLock lock(&mutex);
          replies.push_back(std::move(reply));
        });
  const auto await = [&](size_t count) {
    absl::MutexLock lock(&mutex);
    const auto there = [&] { return replies.size() == count; };
    mutex.Await(absl::Condition(&there));
  };
  const auto put = [](size_t size, absl::string_view fields) {
    return absl::StrCat("PUT / HTTP/1.1\r\nHost: h\r\n", fields,
                        "Content-Length: ", size, "\r\n\r\n");
  };
  const std::string expect = "Expect: 100-continue\r\n";
  const std::string chunked =
      "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  const auto refused = [&](const std::string& request) {
    HttpClient client(port(), tls());
    client.Send(request);
    const auto answer = client.Read();
    EXPECT_TRUE(answer.has_value());
    if (!answer.has_value() || answer->status != 503) return false;
    EXPECT_TRUE(client.AtEnd());
    return true;
  };
  HttpClient first(port(), tls()), third(port(), tls());
  auto second = std::make_unique<HttpClient>(port(), tls());
  // 100 that are to come, 100 that may come, 50 that have come.
  ASSERT_TRUE(first.Send(put(100, expect)));
  EXPECT_EQ(first.Read()->status, 100);
  ASSERT_TRUE(second->Send(chunked));
  EXPECT_EQ(second->Read()->status, 100);
  ASSERT_TRUE(third.Send(put(50, "") + std::string(50, 'x')));
  await(1);
  EXPECT_TRUE(refused(put(1, "")));
  EXPECT_TRUE(refused(chunked));
  // Who has no body needs no room.
  HttpClient none(port(), tls());
  ASSERT_TRUE(none.Send(kGet));
  await(2);
  // Once the length of the chunked one is known, the rest is given back.
  ASSERT_TRUE(second->Send("5\r\nabcde\r\n0\r\n\r\n"));
  await(3);
  HttpClient fourth(port(), tls());
  ASSERT_TRUE(fourth.Send(put(95, expect)));
  EXPECT_EQ(fourth.Read()->status, 100);
  EXPECT_TRUE(refused(put(1, "")));
  // The body of a client that has gone is there until it is answered.
  second.reset();
  EXPECT_TRUE(refused(put(1, "")));
  {
    absl::MutexLock lock(&mutex);
    // That of the one who is heard last.
    std::reverse(replies.begin(), replies.end());
    for (HttpReply& reply : replies) std::move(reply)({.body = "done"});
  }
  EXPECT_EQ(third.Read()->body, "done");
  HttpClient fifth(port(), tls());
  ASSERT_TRUE(fifth.Send(put(55, expect)));
  EXPECT_EQ(fifth.Read()->status, 100);
  EXPECT_TRUE(refused(put(1, "")));
}

TEST_P(HttpServerTest, WhatIsNotAProperRequestIsRefused) {
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
      {"BR(EW /pot HTTP/1.1\r\nHost: h\r\n\r\n", 400},
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
    HttpClient client(port(), tls());
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
  HttpClient client(port(), tls());
  EXPECT_EQ(client.Get("/a")->status, 200);
}

TEST_P(HttpServerTest, TheLimitsAreExact) {
  Start({.header_bytes_max = 1000, .body_bytes_max = 100});
  const auto header = [](size_t size) {
    const std::string start = "PUT / HTTP/1.1\r\nHost: h\r\n";
    const std::string end = "Content-Length: 1\r\n\r\n";
    const size_t rest = size - start.size() - end.size();
    return absl::StrCat(start, "X: ", std::string(rest - 5, 'x'), "\r\n", end);
  };
  {
    HttpClient client(port(), tls());
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
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send("GET /" + std::string(2000, 'a')));
    EXPECT_EQ(client.Read()->status, 431);
  }
  const auto body = [](size_t size) {
    return absl::StrCat("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: ", size,
                        "\r\n\r\n", std::string(size, 'x'));
  };
  HttpClient client(port(), tls());
  ASSERT_TRUE(client.Send(body(100)));
  EXPECT_EQ(client.Read()->body.size(), 106u);
  ASSERT_TRUE(client.Send(body(101)));
  EXPECT_EQ(client.Read()->status, 413);
}

// Each of these would be at work for ever.
TEST_P(HttpServerTest, SlowClientsHaveTheirTime) {
  Start({.header_timeout = absl::Milliseconds(50),
         .body_timeout = absl::Milliseconds(50)});
  {
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send("GET /a HTTP/1.1\r\nHost:"));
    EXPECT_EQ(client.Read()->status, 408);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    // One byte at a time buys no more: slow loris.
    HttpClient client(port(), tls());
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
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send(
        "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell"));
    EXPECT_EQ(client.Read()->status, 408);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    // The second request of a connection has the same time.
    HttpClient client(port(), tls());
    EXPECT_EQ(client.Get("/a")->status, 200);
    ASSERT_TRUE(client.Send("G"));
    EXPECT_EQ(client.Read()->status, 408);
  }
  EXPECT_EQ(calls.load(), 1);
}

TEST_P(HttpServerTest, AConnectionThatIsNotUsedIsClosed) {
  Start({.idle_timeout = absl::Milliseconds(50)});
  HttpClient never(port(), tls());
  EXPECT_TRUE(never.AtEnd());
  HttpClient once(port(), tls());
  EXPECT_EQ(once.Get("/a")->status, 200);
  EXPECT_TRUE(once.AtEnd());
}

// Answers the first request that comes without being turned away.
void AwaitRoom(int port, const std::shared_ptr<SSL_CTX>& tls) {
  while (true) {
    HttpClient client(port, tls);
    const auto answer = client.Get("/a");
    if (answer.has_value() && answer->status == 200) return;
  }
}

TEST_P(HttpServerTest, WhoDoesNotReadTheAnswerIsCutOff) {
  const std::string large(64 << 20, 'x');
  Start({.connections_max = 1, .write_timeout = absl::Milliseconds(50)},
        [&](const HttpRequest& request, HttpReply reply) {
          std::move(reply)(
              {.body = request.target == "/large" ? large : "small"});
        });
  HttpClient client(port(), tls());
  ASSERT_TRUE(client.Send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n"));
  // There is no room for another before it is gone.
  AwaitRoom(port(), tls());
  EXPECT_FALSE(client.Read().has_value());
  EXPECT_LT(client.unread().size(), large.size());
}

// Who takes something of it now and then has the time that it takes.
TEST_P(HttpServerTest, ALargeAnswerHasItsTime) {
  constexpr absl::Duration kTimeout = absl::Seconds(1);
  const std::string large(64 << 20, 'x');
  Start({.write_timeout = kTimeout}, [&](const HttpRequest&, HttpReply reply) {
    std::move(reply)({.body = large});
  });
  HttpClient client(port(), tls());
  ASSERT_TRUE(client.Send(kGet));
  const absl::Time start = absl::Now();
  // More than the sockets' buffers hold, in small pieces over half as much
  // again.
  constexpr int kPieces = 64;
  for (int i = 1; i <= kPieces; ++i) {
    ASSERT_TRUE(client.Skip(large.size() / kPieces)) << i;
    absl::SleepFor(start + kTimeout * 1.5 * i / kPieces - absl::Now());
  }
  EXPECT_TRUE(client.Skip(1));  // There was a header, too.
}

TEST_P(HttpServerTest, ConnectionsAreLimited) {
  Start({.connections_max = 2});
  {
    HttpClient first(port(), tls()), second(port(), tls());
    ASSERT_EQ(first.Get("/a")->status, 200);
    ASSERT_EQ(second.Get("/a")->status, 200);
    HttpClient third(port(), tls());
    const auto answer = third.Read();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status, 503);
    EXPECT_EQ(answer->body, "too many connections\n");
    EXPECT_TRUE(third.AtEnd());
    EXPECT_EQ(first.Get("/a")->status, 200);
  }
  AwaitRoom(port(), tls());
}

TEST_P(HttpServerTest, StrangersMakeRoomForOthers) {
  Start({.connections_max = 4,
         .header_timeout = absl::Hours(1),
         .idle_timeout = absl::Hours(1)},
        [](const HttpRequest& request, HttpReply reply) {
          std::move(reply)({.status = request.target == "/no" ? 401 : 200});
        });
  HttpClient known(port(), tls());
  EXPECT_EQ(known.Get("/a")->status, 200);
  EXPECT_EQ(known.Get("/no")->status, 401);  // Does not make it a stranger.
  HttpClient refused(port(), tls()), silent(port()), half(port(), tls());
  EXPECT_EQ(half.Get("/no")->status, 401);  // All have been accepted.
  ASSERT_TRUE(half.Send("GET /a HTTP/1.1\r\nHos"));
  // It has been idle for less time than the others now.
  EXPECT_EQ(refused.Get("/no")->status, 401);
  HttpClient second(port(), tls());
  EXPECT_EQ(second.Get("/a")->status, 200);
  EXPECT_TRUE(silent.AtEnd());
  HttpClient third(port(), tls());
  EXPECT_EQ(third.Get("/a")->status, 200);
  EXPECT_TRUE(half.AtEnd());
  EXPECT_EQ(refused.Get("/no")->status, 401);
  // However many there are, they have but the places of their like.
  std::vector<std::unique_ptr<HttpClient>> strangers;
  for (int i = 0; i < 50; ++i) {
    strangers.push_back(std::make_unique<HttpClient>(port()));
  }
  HttpClient fourth(port(), tls());
  EXPECT_EQ(fourth.Get("/a")->status, 200);
  EXPECT_TRUE(refused.AtEnd());
  for (HttpClient* client : {&known, &second, &third, &fourth}) {
    EXPECT_EQ(client->Get("/a")->status, 200);
  }
  // There are no strangers left.
  HttpClient fifth(port(), tls());
  EXPECT_EQ(fifth.Read()->status, 503);
}

TEST_P(HttpServerTest, ClientsThatGoAwayDoNoHarm) {
  Start({.connections_max = 1});
  const std::string whole = absl::StrCat(
      "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
      "Content-Length: 5\r\n\r\nhello");
  for (size_t size = 0; size <= whole.size(); ++size) {
    {
      HttpClient client(port(), tls());
      // The one before may still be there.
      client.Send(whole.substr(0, size));
    }
    AwaitRoom(port(), tls());
  }
  // One that only stops sending still reads.
  std::optional<HttpAnswer> answer;
  do {
    HttpClient half(port(), tls());
    half.Send(kGet);
    half.ShutdownSend();
    answer = half.Read();
  } while (!answer.has_value() || answer->status == 503);
  EXPECT_EQ(answer->status, 200);
}

TEST_P(HttpServerTest, StopLetsRequestsFinish) {
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
  HttpClient idle(port(), tls()), used(port(), tls()), slow(port(), tls()),
      sending(port(), tls());
  EXPECT_EQ(used.Get("/a")->status, 200);
  ASSERT_TRUE(sending.Send("GET /half HTTP/1.1\r\nHos"));
  ASSERT_TRUE(slow.Send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
  handling.WaitForNotification();
  std::thread stop([&] { server_->Stop(absl::Seconds(60)); });
  // Those without a request are closed at once, and no others come.
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(used.AtEnd());
  HttpClient late(port(), tls());
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
  EXPECT_EQ(server_->Stop(absl::ZeroDuration()), 0);  // Again.
}

TEST_P(HttpServerTest, StopDoesNotWaitForEver) {
  absl::Notification handling;
  std::optional<HttpReply> pending;
  Start({}, [&](const HttpRequest&, HttpReply reply) {
    pending = std::move(reply);
    handling.Notify();
  });
  HttpClient client(port(), tls()), sending(port(), tls()), idle(port(), tls());
  // 100: the server is about to read the body.
  ASSERT_TRUE(
      sending.Send("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                   "Content-Length: 1\r\n\r\n"));
  ASSERT_EQ(sending.Read()->status, 100);
  ASSERT_TRUE(client.Send(kGet));
  handling.WaitForNotification();
  EXPECT_EQ(server_->Stop(absl::Milliseconds(10)), 2);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(server_->Stop(absl::Milliseconds(10)), 2);  // Again.
  server_.reset();
  // Nobody is there to hear it.
  std::move (*pending)({.body = "late"});
}

// Clients ask as fast as they can while the server stops: every request that
// was handled is answered whole, and nobody gets half an answer.
TEST_P(HttpServerTest, StopUnderLoadLosesNoAnswer) {
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
          HttpClient client(port(), tls());
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

TEST_P(HttpServerTest, WhatTheServerSaysItselfIsMadeByTheHook) {
  absl::Notification handling;
  std::optional<HttpReply> pending;
  HttpServerOptions options{.connections_max = 1, .body_bytes_max = 10};
  options.refusal = [](int status, absl::string_view why) {
    return HttpResponse{.status = status + 1,
                        .content_type = "text/x",
                        .headers = {{"X-Why", std::string(why)}},
                        .body = absl::StrCat("<", status, ">")};
  };
  Start(std::move(options), [&](const HttpRequest&, HttpReply reply) {
    pending = std::move(reply);
    handling.Notify();
  });
  {
    HttpClient client(port(), tls());
    ASSERT_TRUE(client.Send(kGet));
    handling.WaitForNotification();
    HttpClient second(port(), tls());
    const auto full = second.Read();
    ASSERT_TRUE(full.has_value());
    EXPECT_EQ(full->status, 504);
    EXPECT_EQ(full->body, "<503>");
    EXPECT_EQ(full->headers.at("x-why"), "too many connections");
    EXPECT_TRUE(second.AtEnd());
    pending.reset();
    const auto dropped = client.Read();
    ASSERT_TRUE(dropped.has_value());
    EXPECT_EQ(dropped->status, 501);
    EXPECT_EQ(dropped->body, "<500>");
    EXPECT_EQ(dropped->headers.count("connection"), 0);
    ASSERT_TRUE(
        client.Send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n"));
    const auto refused = client.Read();
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->status, 414);
    EXPECT_EQ(refused->headers.at("content-type"), "text/x");
    EXPECT_EQ(refused->headers.at("x-why"), "the body has more than 10 bytes");
    EXPECT_EQ(refused->headers.at("connection"), "close");
    EXPECT_TRUE(client.AtEnd());
  }
}

TEST_P(HttpServerTest, OptionsAndAddressesAreChecked) {
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
  EXPECT_EQ(
      error({.listen = listen, .body_bytes_max = 100, .bodies_bytes_max = 99}),
      "INVALID_ARGUMENT: bodies_bytes_max must be in [100, "
      "1099511627776]; got 99");
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

// ------------------------------------------------------------------------ TLS

class HttpServerTlsTest : public HttpServerTest {};

INSTANTIATE_TEST_SUITE_P(All, HttpServerTlsTest,
                         testing::Values(Below::kTls12, Below::kTls13), NameOf);

// What a client says first.
std::string ClientHello(SSL_CTX* context) {
  SSL* const ssl = SSL_new(context);
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
  SSL_set_connect_state(ssl);
  SSL_do_handshake(ssl);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  std::string hello(data, static_cast<size_t>(size));
  SSL_free(ssl);
  return hello;
}

TEST_P(HttpServerTlsTest, TheVersionIsTheClients) {
  Start();
  HttpClient client(port(), tls());
  ASSERT_TRUE(client.secured());
  EXPECT_EQ(SSL_version(client.ssl()),
            GetParam() == Below::kTls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  EXPECT_EQ(client.Get("/a")->status, 200);
}

TEST_P(HttpServerTlsTest, WhatIsWeakIsNotSpoken) {
  Start();
  // TLS 1.1, for which a client has to lower its standards.
  SSL_CTX_set_security_level(tls_.get(), 0);
  SSL_CTX_set_min_proto_version(tls_.get(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(tls_.get(), TLS1_1_VERSION);
  {
    HttpClient client(port(), tls());
    EXPECT_TRUE(client.connected());
    EXPECT_FALSE(client.secured());
  }
  // In 1.2: without forward secrecy, or with encryption that does not
  // authenticate.
  SSL_CTX_set_max_proto_version(tls_.get(), TLS1_2_VERSION);
  for (const char* suites : {"AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256",
                             "ECDHE-ECDSA-AES128-SHA", "aNULL"}) {
    ASSERT_EQ(SSL_CTX_set_cipher_list(tls_.get(), suites), 1) << suites;
    EXPECT_FALSE(HttpClient(port(), tls()).secured()) << suites;
  }
  for (const char* suites :
       {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}) {
    ASSERT_EQ(SSL_CTX_set_cipher_list(tls_.get(), suites), 1) << suites;
    EXPECT_TRUE(HttpClient(port(), tls()).secured()) << suites;
  }
}

TEST_P(HttpServerTlsTest, AlpnIsPassedOver) {
  Start();
  constexpr unsigned char kProtocols[] = "\x02h2\x08http/1.1";
  ASSERT_EQ(
      SSL_CTX_set_alpn_protos(tls_.get(), kProtocols, sizeof(kProtocols) - 1),
      0);
  HttpClient client(port(), tls());
  const auto answer = client.Get("/a");
  ASSERT_TRUE(answer.has_value());
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(client.ssl(), &chosen, &size);
  EXPECT_EQ(size, 0u);
}

TEST_P(HttpServerTlsTest, SessionsAreResumedWhileTheServerLives) {
  Start();
  SSL_SESSION* session = nullptr;
  for (int i = 0; i < 4; ++i) {
    HttpClient client(port(), tls(), session);
    EXPECT_EQ(client.Get("/a")->status, 200);
    EXPECT_EQ(SSL_session_reused(client.ssl()), i > 0 ? 1 : 0);
    SSL_SESSION_free(session);
    session = SSL_get1_session(client.ssl());
    client.ShutdownSend();  // OpenSSL drops the session of one that is cut off.
  }
  // Another one has other keys, and makes a whole handshake of it.
  server_.reset();
  Start();
  HttpClient client(port(), tls(), session);
  EXPECT_EQ(client.Get("/a")->status, 200);
  EXPECT_EQ(SSL_session_reused(client.ssl()), 0);
  SSL_SESSION_free(session);
}

TEST_P(HttpServerTlsTest, TheEndIsSaid) {
  Start({.connections_max = 1, .idle_timeout = absl::Milliseconds(50)});
  {
    HttpClient client(port(), tls());
    EXPECT_EQ(client.Get("/a")->status, 200);
    HttpClient second(port(), tls());
    EXPECT_EQ(second.Read()->status, 503);
    EXPECT_TRUE(second.AtEnd());
    EXPECT_TRUE(second.SaidGoodbye());
    EXPECT_TRUE(client.AtEnd());  // Idle for too long.
    EXPECT_TRUE(client.SaidGoodbye());
  }
  AwaitRoom(port(), tls());
  std::optional<HttpAnswer> answer;
  do {
    HttpClient client(port(), tls());
    client.Send("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    answer = client.Read();
    EXPECT_TRUE(client.AtEnd());
    EXPECT_TRUE(client.SaidGoodbye());
  } while (!answer.has_value() || answer->status != 200);
}

TEST_P(HttpServerTlsTest, PlainHttpIsToldSo) {
  Start();
  for (const char* request :
       {kGet, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
        "HEAD / HTTP/1.0\r\n\r\n", "PUT / HTTP/1.1\r\n"}) {
    SCOPED_TRACE(request);
    HttpClient client(port());
    ASSERT_TRUE(client.Send(request));
    const auto answer = client.Read();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status, 400);
    EXPECT_EQ(answer->body, "this port speaks HTTPS\n");
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(calls.load(), 0);
}

// Whatever is sent before there is TLS, there is an end, no word but TLS's
// alert, and room for others.
TEST_P(HttpServerTlsTest, HostileHandshakesEnd) {
  Start({.connections_max = 1, .header_timeout = absl::Milliseconds(50)});
  const std::string hello = ClientHello(tls_.get());
  std::vector<std::string> cases = {
      "",
      "hello\r\n\r\n",
      "DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n",
      std::string("\x16\x03\x01\xff\xff", 5),
      std::string("\x16\x03\x01\x00\x00", 5),
      std::string("\x15\x03\x03\x00\x02\x01\x00", 7),  // close_notify.
      std::string("\x15\x03\x03\x00\x02\x02\x28", 7),  // A fatal alert.
      std::string("\x17\x03\x03\x00\x05hello", 10),
      std::string("\x80\x2e\x01\x00\x02", 5) + std::string(100, 'x'),  // SSL 2.
      hello + hello,
      hello + std::string("\x17\x03\x03\x00\x05hello", 10),
      hello + std::string("\x14\x03\x03\x00\x01\x02", 6),
      std::string(100'000, '\0'),
      std::string(100'000, '\x16'),
  };
  for (const size_t size :
       {size_t{1}, size_t{5}, size_t{9}, size_t{50}, hello.size() - 1}) {
    cases.push_back(hello.substr(0, size));
  }
  for (size_t at = 0; at < hello.size(); at += 17) {
    cases.push_back(hello);
    cases.back()[at] ^= 0x41;
  }
  for (const std::string& bytes : cases) {
    SCOPED_TRACE(absl::BytesToHexString(bytes.substr(0, 200)));
    std::string answer;
    {
      HttpClient client(port());
      client.SendRaw(bytes);
      answer = client.ReadAll();
    }
    // A record of TLS: an alert, or what a good ClientHello is answered with.
    if (!answer.empty()) {
      EXPECT_TRUE(answer[0] == '\x15' || answer[0] == '\x16');
    }
    AwaitRoom(port(), tls());
  }
}

// One byte at a time buys no more time.
TEST_P(HttpServerTlsTest, AHandshakeHasItsTime) {
  Start({.header_timeout = absl::Milliseconds(50)});
  HttpClient client(port());
  const std::string endless("\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb", 9);
  ASSERT_TRUE(client.SendRaw(endless));
  std::thread trickle([&] {
    while (client.SendRaw("\x03")) std::this_thread::yield();
  });
  client.ReadAll();
  trickle.join();
  // Who is quick is not disturbed by it.
  HttpClient quick(port(), tls());
  EXPECT_EQ(quick.Get("/a")->status, 200);
}

TEST_P(HttpServerTlsTest, AHandshakeThatIsUnderWayDoesNotHoldTheEndUp) {
  Start({.header_timeout = absl::Hours(1)});
  HttpClient silent(port()), half(port());
  half.SendRaw(ClientHello(tls_.get()));
  HttpClient done(port(), tls());  // Accepted after those.
  EXPECT_EQ(done.Get("/a")->status, 200);
  server_->Stop(absl::Hours(1));
  EXPECT_TRUE(silent.AtEnd());
  half.ReadAll();
  EXPECT_TRUE(done.AtEnd());
  EXPECT_TRUE(done.SaidGoodbye());
}

TEST_P(HttpServerTlsTest, NotManyAreToldThatThereAreTooMany) {
  Start({.connections_max = 1, .header_timeout = absl::Hours(1)});
  HttpClient first(port(), tls());
  EXPECT_EQ(first.Get("/a")->status, 200);
  // They do not even hear it, as they do not say hello.
  std::vector<std::unique_ptr<HttpClient>> silent;
  for (int i = 0; i < kHttpTurnedAwayMax; ++i) {
    silent.push_back(std::make_unique<HttpClient>(port()));
  }
  HttpClient last(port());
  EXPECT_TRUE(last.AtEnd());
  EXPECT_EQ(first.Get("/a")->status, 200);
  silent.pop_back();
  std::optional<HttpAnswer> answer;
  while (!answer.has_value()) {
    HttpClient client(port(), tls());
    answer = client.Read();
  }
  EXPECT_EQ(answer->status, 503);
}

// TLS that breaks in the middle ends its connection, and nothing else.
TEST_P(HttpServerTlsTest, BrokenRecordsEndTheConnection) {
  Start();
  HttpClient other(port(), tls());
  for (const std::string& bytes :
       {std::string("\x17\x03\x03\x00\x20") + std::string(32, 'x'),
        std::string("\x17\x03\x03\xff\xff") + std::string(100, 'x'),
        std::string("\x16\x03\x03\x00\x01", 5) + "x",
        std::string("GET / HT")}) {
    SCOPED_TRACE(absl::BytesToHexString(bytes));
    HttpClient client(port(), tls());
    EXPECT_EQ(client.Get("/a")->status, 200);
    ASSERT_TRUE(client.Send("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Len"));
    ASSERT_TRUE(client.SendRaw(bytes));
    EXPECT_FALSE(client.Read().has_value());
    EXPECT_EQ(other.Get("/a")->status, 200);
  }
  // Cut off without a word of TLS.
  HttpClient cut(port(), tls());
  ASSERT_TRUE(cut.Send("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Len"));
  cut.ShutdownSendRaw();
  EXPECT_FALSE(cut.Read().has_value());
  EXPECT_EQ(other.Get("/a")->status, 200);
}

TEST_P(HttpServerTlsTest, KeysAreChangedWhenAskedTo) {
  Start();
  HttpClient client(port(), tls());
  EXPECT_EQ(client.Get("/a")->status, 200);
  if (GetParam() == Below::kTls13) {
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
      EXPECT_EQ(client.Get("/a")->status, 200);
    }
  } else {
    // It would cost us as much as a connection, and the client nothing.
    SSL_renegotiate(client.ssl());
    EXPECT_FALSE(client.Get("/a").has_value());
  }
  EXPECT_EQ(HttpClient(port(), tls()).Get("/a")->status, 200);
}

// What that many KeyUpdates are on the wire, one behind the other.
std::string KeyUpdates(HttpClient& client, int count) {
  BIO* const out = SSL_get_wbio(client.ssl());
  for (int i = 0; i < count; ++i) {
    EXPECT_EQ(SSL_key_update(client.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    EXPECT_EQ(SSL_do_handshake(client.ssl()), 1);
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  std::string updates(data, static_cast<size_t>(size));
  BIO_reset(out);
  return updates;
}

// Each costs the server a thousand times what it costs the client.
TEST_P(HttpServerTlsTest, AFloodOfKeyUpdatesIsCutOff) {
  if (GetParam() == Below::kTls12) GTEST_SKIP() << "has none";
  Start({.header_timeout = absl::Hours(1)});
  HttpClient other(port(), tls());
  EXPECT_EQ(other.Get("/a")->status, 200);
  {
    // As many as a client may send for each request.
    HttpClient client(port(), tls());
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(client.Get("/a")->status, 200);
      ASSERT_TRUE(client.SendRaw(KeyUpdates(client, kTlsSilentRecordsMax)));
    }
    EXPECT_EQ(client.Get("/a")->status, 200);
    // Data between them buys no more.
    ASSERT_TRUE(client.SendRaw(KeyUpdates(client, kTlsSilentRecordsMax)));
    ASSERT_TRUE(client.Send("GET /a HTTP/1.1\r\nHo"));
    client.SendRaw(KeyUpdates(client, 2));
    client.Send("st: h\r\n\r\n");
    EXPECT_FALSE(client.Read().has_value());
  }
  // The server may close it before all is sent.
  HttpClient flooder(port(), tls());
  const std::string flood = KeyUpdates(flooder, 20'000);
  std::thread sender([&] { flooder.SendRaw(flood); });
  EXPECT_EQ(other.Get("/a")->status, 200);
  EXPECT_TRUE(flooder.AtEnd());
  sender.join();
  EXPECT_EQ(other.Get("/a")->status, 200);
}

// A handshake in many small records.
TEST_P(HttpServerTlsTest, AHandshakeHasFewRecords) {
  Start({.header_timeout = absl::Hours(1)});
  const std::string hello = ClientHello(tls_.get());
  const auto answer = [&](size_t records) {
    const std::string body = hello.substr(5);
    const size_t piece = body.size() / records + 1;
    std::string bytes;
    for (size_t at = 0; at < body.size(); at += piece) {
      const std::string part = body.substr(at, piece);
      bytes +=
          hello.substr(0, 3) + '\0' + static_cast<char>(part.size()) + part;
    }
    HttpClient client(port());
    client.SendRaw(bytes);
    client.ShutdownSendRaw();
    return client.ReadAll();
  };
  EXPECT_TRUE(absl::StartsWith(answer(8), "\x16"));
  EXPECT_EQ(answer(100), "");
}

class TlsFilesTest : public testing::Test {
 protected:
  static std::string Write(absl::string_view name, absl::string_view text) {
    const std::string path = absl::StrCat(testing::TempDir(), "/", name);
    std::ofstream(path) << text;
    return path;
  }
  static std::string Error(const std::string& certificate,
                           const std::string& key) {
    const auto server = HttpServer::Start(
        {.listen = "127.0.0.1:0", .tls = HttpTls{certificate, key}},
        [](const HttpRequest&, HttpReply) {});
    return server.ok() ? "OK" : server.status().ToString();
  }
};

TEST_F(TlsFilesTest, AreCheckedAtTheStart) {
  const absl::Time now = Clock::Real().Now();
  const CertificateAndKey made = *MakeSelfSigned({"localhost"}, now);
  const std::string certificate = Write("own.pem", made.certificate);
  const std::string key = Write("own.key", made.key);
  EXPECT_EQ(Error(certificate, key), "OK");

  const std::string none = testing::TempDir() + "/none";
  EXPECT_EQ(Error(none, key), absl::StrCat("NOT_FOUND: cannot read ", none,
                                           ": No such file or directory"));
  EXPECT_EQ(Error(certificate, none),
            absl::StrCat("NOT_FOUND: cannot read ", none,
                         ": No such file or directory"));
  const std::string text = Write("text", "hello\n");
  EXPECT_TRUE(absl::StartsWith(
      Error(text, key),
      absl::StrCat("INVALID_ARGUMENT: ", text, " is no PEM file")));
  EXPECT_EQ(Error(key, key), absl::StrCat("INVALID_ARGUMENT: ", key,
                                          " has no certificate that can be "
                                          "read"));
  EXPECT_EQ(Error(certificate, certificate),
            absl::StrCat("INVALID_ARGUMENT: ", certificate,
                         " has no key that can be read without a passphrase"));
  const std::string other =
      Write("other.key", MakeSelfSigned({"localhost"}, now)->key);
  EXPECT_EQ(Error(certificate, other),
            absl::StrCat("INVALID_ARGUMENT: the key in ", other,
                         " is not that of the certificate in ", certificate));
  // The first one is good; what is to come behind it is not.
  const std::string chain =
      Write("chain.pem", absl::StrCat(made.certificate,
                                      "-----BEGIN CERTIFICATE-----\nAAAA\n"
                                      "-----END CERTIFICATE-----\n"));
  EXPECT_TRUE(absl::StartsWith(
      Error(chain, key), absl::StrCat("INVALID_ARGUMENT: cannot use ", chain)))
      << Error(chain, key);
}

// A client that knows the root alone.
TEST_F(TlsFilesTest, TheWholeChainIsShown) {
  const absl::Time now = Clock::Real().Now();
  const auto make = [&](absl::string_view name, bool is_authority,
                        const CertificateAndKey* issuer) {
    return MakeCertificate(
               {.common_name = std::string(name),
                .alternative_names = is_authority ? "" : "DNS:localhost",
                .from = now - absl::Hours(1),
                .to = now + absl::Hours(1),
                .is_authority = is_authority},
               issuer)
        .value();
  };
  const CertificateAndKey root = make("root", true, nullptr);
  const CertificateAndKey middle = make("middle", true, &root);
  const CertificateAndKey own = make("own", false, &middle);
  const auto tls = ClientTls(Write("root.pem", root.certificate));
  const std::string key = Write("leaf.key", own.key);
  for (const bool whole : {true, false}) {
    const std::string chain =
        Write("leaf.pem",
              absl::StrCat(own.certificate, whole ? middle.certificate : ""));
    const auto server = HttpServer::Start(
        {.listen = "127.0.0.1:0", .tls = HttpTls{chain, key}},
        [](const HttpRequest&, HttpReply reply) { std::move(reply)({}); });
    ASSERT_TRUE(server.ok()) << server.status();
    HttpClient client((*server)->port(), tls);
    EXPECT_EQ(client.secured(), whole);
  }
}

}  // namespace
}  // namespace muster
