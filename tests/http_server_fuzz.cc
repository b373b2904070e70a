// Any bytes to a running server, over a socket: what comes back is whole
// responses of HTTP, one after the other, and then the end.
//
// The first byte says how they are sent: 0 in one piece, 1 in pieces, 2 through
// TLS, 3 as they are to the port that speaks TLS, where what comes back is
// records of TLS or a word in the clear.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "openssl/ssl.h"
#include "tests/http_client.h"
#include "transport/http/http_server.h"
#include "transport/http/self_signed.h"

namespace muster {
namespace {

void Handle(const HttpRequest& request, HttpReply reply) {
  // What the server lets through.
  MUSTER_CHECK(!request.method.empty() && !request.target.empty());
  for (const auto& [name, value] : request.headers) {
    MUSTER_CHECK(!name.empty() &&
                 name.find_first_of(" \t\r\n:") == std::string::npos &&
                 value.find_first_of("\r\n") == std::string::npos);
  }
  if (request.path() == "/drop") return;
  HttpResponse response;
  response.status = request.path() == "/none" ? 204 : 200;
  response.body = absl::StrCat("got ", request.body.size(), "\n");
  std::move(reply)(std::move(response));
}

class Servers {
 public:
  Servers() {
    std::string folder = "/tmp/http_server_fuzz_XXXXXX";
    MUSTER_CHECK(mkdtemp(folder.data()) != nullptr);
    const std::string certificate = folder + "/cert.pem";
    const std::string key = folder + "/key.pem";
    const CertificateAndKey made =
        MakeSelfSigned({"localhost"}, Clock::Real().Now()).value();
    Write(certificate, made.certificate);
    Write(key, made.key);
    // Nothing here waits for a time to be over.
    HttpServerOptions options{.listen = "127.0.0.1:0",
                              .header_bytes_max = 1024,
                              .body_bytes_max = 1024,
                              .header_timeout = absl::Minutes(10),
                              .body_timeout = absl::Minutes(10)};
    plain = HttpServer::Start(options, Handle).value();
    options.tls = HttpTls{.certificate_path = certificate, .key_path = key};
    secure = HttpServer::Start(options, Handle).value();
    tls = ClientTls(certificate);
    for (const std::string& path : {certificate, key}) unlink(path.c_str());
    rmdir(folder.c_str());
  }

  std::unique_ptr<HttpServer> plain, secure;
  std::shared_ptr<SSL_CTX> tls;

 private:
  static void Write(const std::string& path, const std::string& text) {
    std::FILE* const file = std::fopen(path.c_str(), "w");
    MUSTER_CHECK(file != nullptr && std::fputs(text.c_str(), file) >= 0 &&
                 std::fclose(file) == 0);
  }
};

// A response off the front.
void TakeResponse(absl::string_view* text) {
  MUSTER_CHECK(absl::ConsumePrefix(text, "HTTP/1.1 ") ||
               absl::ConsumePrefix(text, "HTTP/1.0 "));
  int status = 0;
  MUSTER_CHECK(absl::SimpleAtoi(text->substr(0, 3), &status));
  const size_t end = text->find("\r\n\r\n");
  MUSTER_CHECK(end != text->npos);
  const absl::string_view head = text->substr(0, end + 2);
  text->remove_prefix(end + 4);
  if (status == 100 || status == 204) {
    MUSTER_CHECK(!absl::StrContains(head, "Content-Length"));
    return;
  }
  MUSTER_CHECK(status == 200 || (status >= 400 && status < 600));
  constexpr absl::string_view kLength = "\r\nContent-Length: ";
  const size_t at = head.find(kLength);
  MUSTER_CHECK(at != head.npos);
  const size_t begin = at + kLength.size();
  size_t length = 0;
  MUSTER_CHECK(absl::SimpleAtoi(
      head.substr(begin, head.find("\r\n", begin) - begin), &length));
  // HEAD is answered without the body, which never looks like a head.
  if (text->empty() || absl::StartsWith(*text, "HTTP/1.")) return;
  MUSTER_CHECK(length <= text->size());
  text->remove_prefix(length);
}

void TakeRecord(absl::string_view* bytes) {
  MUSTER_CHECK(bytes->size() > 5);
  const auto byte = [&](size_t i) { return static_cast<uint8_t>((*bytes)[i]); };
  MUSTER_CHECK(byte(0) >= 20 && byte(0) <= 23 && byte(1) == 3);
  const size_t length = (size_t{byte(3)} << 8 | byte(4)) + 5;
  MUSTER_CHECK(length <= bytes->size());
  bytes->remove_prefix(length);
}

void Fuzz(absl::string_view input) {
  static const Servers* const servers = new Servers;
  if (input.empty()) return;
  const int how = static_cast<uint8_t>(input[0]) % 4;
  input.remove_prefix(1);
  const bool through_tls = how == 2;
  HttpClient client((how < 2 ? servers->plain : servers->secure)->port(),
                    through_tls ? servers->tls : nullptr);
  MUSTER_CHECK(client.connected() && (!through_tls || client.secured()));
  // It may have been refused already.
  const size_t piece = how == 1 ? input.size() / 7 + 1 : input.size();
  for (size_t at = 0; at < input.size(); at += piece) {
    if (!client.Send(input.substr(at, piece))) break;
  }
  client.ShutdownSend();
  const std::string answer = client.ReadAll();
  absl::string_view rest = answer;
  const bool records = how == 3 && !absl::StartsWith(rest, "HTTP/1.1 400 ");
  while (!rest.empty()) records ? TakeRecord(&rest) : TakeResponse(&rest);
  MUSTER_CHECK(!through_tls || client.SaidGoodbye());
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::Fuzz(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
