// `muster serve --http` and `--dev` as processes: who gets in, what stays, and
// what is refused before anything is served.
#include <signal.h>
#include <sys/stat.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli_process.h"
#include "tests/http_client.h"
#include "tests/service_process.h"
#include "tests/test_certificates.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::string_view kHub = "hub.example.net";
constexpr absl::string_view kOwnerKey =
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr absl::string_view kReaderKey =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
constexpr absl::string_view kReaderNewKey = "c2Vjb25kc2Vjb25kc2Vjb25kMDA=";
constexpr absl::string_view kForeignKey = "Zm9yZWlnbmZvcmVpZ25mb3JlaWdu";

std::string Path(absl::string_view name) {
  return absl::StrCat(::testing::TempDir(), "/", name);
}

std::string Write(absl::string_view name, absl::string_view text) {
  const std::string path = Path(name);
  std::ofstream(path, std::ios::binary) << std::string(text);
  return path;
}

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Permissions, such as 0600.
uint32_t ModeOf(const std::string& path) {
  struct stat found = {};
  EXPECT_EQ(stat(path.c_str(), &found), 0) << path;
  return found.st_mode & 0777;
}

std::string Token(absl::string_view key, absl::string_view resource,
                  absl::string_view policy) {
  return SasKey::FromBase64(key).value().MakeToken(
      resource, policy, absl::Now() + absl::Hours(1));
}

// What clients of one hub need to reach it.
struct Hub {
  int port = 0;
  std::shared_ptr<SSL_CTX> tls;  // Null: plaintext.

  HttpAnswer Ask(absl::string_view method, absl::string_view path,
                 absl::string_view token, absl::string_view body = "") const {
    HttpClient client(port, tls);
    std::string request = absl::StrCat(
        method, " ", path, absl::StrContains(path, '?') ? "&" : "?",
        "api-version=2021-04-12 HTTP/1.1\r\nHost: ", kHub, "\r\n");
    if (!token.empty()) {
      absl::StrAppend(&request, "Authorization: ", token, "\r\n");
    }
    if (!body.empty()) {
      absl::StrAppend(&request, "Content-Type: application/json\r\n");
    }
    absl::StrAppend(&request, "Content-Length: ", body.size(), "\r\n\r\n",
                    body);
    EXPECT_TRUE(client.Send(request));
    std::optional<HttpAnswer> answer = client.Read();
    EXPECT_TRUE(answer.has_value()) << path;
    return answer.value_or(HttpAnswer());
  }
};

// Where the first address of --http is, as the server says it.
int HttpPort(ServerProcess& server) {
  int port = 0;
  const std::string text = TextBetween(server.process().text(0),
                                       "serves the hub's API at http", " ");
  EXPECT_TRUE(absl::SimpleAtoi(text.substr(text.rfind(':') + 1), &port))
      << server.process().text(0);
  return port;
}

std::vector<std::string> TlsFlags(const TestCertificate& certificate) {
  return {"--tls-cert", certificate.certificate_path, "--tls-key",
          certificate.key_path};
}

TestCertificate ServerCertificate(TestAuthority& authority) {
  return authority.Issue({.alternative_names = "DNS:localhost,IP:127.0.0.1"});
}

// ----------------------------------------------------------------- serve
// --http

TEST(CliHubTest, PoliciesSayWhoMayDoWhat) {
  TestAuthority authority("policies");
  std::vector<std::string> flags = TlsFlags(ServerCertificate(authority));
  flags.insert(
      flags.end(),
      {"--http", "127.0.0.1:0", "--hub-name", std::string(kHub), "--policy",
       absl::StrCat("iothubowner=", kOwnerKey), "--policy",
       absl::StrCat("registryRead=@",
                    Write("reader.key", absl::StrCat(kReaderKey, "\n")), ",",
                    kReaderNewKey),
       "--policy", absl::StrCat("device=", kForeignKey)});
  ServerProcess server(flags);
  ASSERT_THAT(server.process().text(0),
              AllOf(HasSubstr("serves the hub's API at https://127.0.0.1:"),
                    HasSubstr(" (iothubowner, registryRead, device)\n")));
  const Hub hub = {HttpPort(server), ClientTls(authority.path())};

  const struct {
    absl::string_view key;
    absl::string_view resource;
    absl::string_view policy;
    absl::string_view error;  // Empty: 200.
  } kReads[] = {
      {kOwnerKey, kHub, "iothubowner", ""},
      {kOwnerKey, "HUB.example.net/jobs", "iothubowner", ""},
      {kReaderKey, kHub, "registryRead", ""},
      {kReaderNewKey, kHub, "registryRead", ""},
      {kForeignKey, kHub, "registryRead", "IotHubUnauthorizedAccess"},
      {kForeignKey, kHub, "device", "IotHubUnauthorizedAccess"},
      {kOwnerKey, "other.example.net", "iothubowner",
       "IotHubUnauthorizedAccess"},
      {kOwnerKey, "hub.example.net/twins", "iothubowner",
       "IotHubUnauthorizedAccess"},
      {kOwnerKey, kHub, "service", "IotHubUnauthorizedAccess"},
      {kOwnerKey, kHub, "", "IotHubUnauthorizedAccess"},
  };
  for (const auto& [key, resource, policy, error] : kReads) {
    SCOPED_TRACE(absl::StrCat(policy, " for ", resource));
    const HttpAnswer answer =
        hub.Ask("GET", "/jobs/v2/query", Token(key, resource, policy));
    EXPECT_EQ(answer.status, error.empty() ? 200 : 401) << answer.body;
    EXPECT_THAT(answer.body,
                HasSubstr(error.empty() ? std::string("[]")
                                        : absl::StrCat("ErrorCode:", error)));
    for (const absl::string_view secret :
         {kOwnerKey, kReaderKey, kReaderNewKey, kForeignKey}) {
      EXPECT_THAT(answer.body, Not(HasSubstr(std::string(secret))));
    }
  }
  EXPECT_THAT(hub.Ask("GET", "/jobs/v2/query", "").body,
              HasSubstr("ErrorCode:IotHubUnauthorized;"));
  // What a reader may not.
  EXPECT_EQ(hub.Ask("PUT", "/devices/thermo-1",
                    Token(kReaderKey, kHub, "registryRead"),
                    R"({"deviceId":"thermo-1"})")
                .status,
            401);

  // The same policies are good for gRPC.
  const auto list = [&](absl::string_view policy, absl::string_view key) {
    return server.Call({"job", "list", "--tls-ca", authority.path(), "--token",
                        Token(key, kHub, policy)});
  };
  EXPECT_EQ(list("iothubowner", kOwnerKey).exit_code, 0);
  EXPECT_THAT(list("registryRead", kReaderKey).err,
              HasSubstr("needs the role read"));

  const Result end = server.End(SIGTERM);
  EXPECT_EQ(end.exit_code, 0);
  for (const absl::string_view secret :
       {kOwnerKey, kReaderKey, kReaderNewKey, kForeignKey}) {
    EXPECT_THAT(absl::StrCat(end.out, end.err),
                Not(HasSubstr(std::string(secret))));
  }
}

// A device signs with the keys that the registry has made for it, and has no
// permission of a back end's.
TEST(CliHubTest, DevicesAreKnownByTheirKeys) {
  TestAuthority authority("devices");
  std::vector<std::string> flags = TlsFlags(ServerCertificate(authority));
  flags.insert(flags.end(),
               {"--http", "127.0.0.1:0", "--hub-name", std::string(kHub),
                "--policy", absl::StrCat("iothubowner=", kOwnerKey)});
  ServerProcess server(flags);
  const Hub hub = {HttpPort(server), ClientTls(authority.path())};
  const HttpAnswer created =
      hub.Ask("PUT", "/devices/thermo-1", Token(kOwnerKey, kHub, "iothubowner"),
              R"({"deviceId":"thermo-1"})");
  ASSERT_EQ(created.status, 200) << created.body;
  const Json device = ParseJson(created.body).value();
  const JsonView keys =
      device.view().Find("authentication").Find("symmetricKey");
  const auto ask = [&](absl::string_view key, absl::string_view id) {
    return hub
        .Ask("GET", absl::StrCat("/devices/", id),
             Token(key, absl::StrCat(kHub, "/devices/", id), ""))
        .body;
  };
  for (const absl::string_view name : {"primaryKey", "secondaryKey"}) {
    EXPECT_THAT(ask(keys.Find(name).string_value(), "thermo-1"),
                HasSubstr("ErrorCode:IotHubUnauthorizedAccess;GET /devices/{} "
                          "needs the permission RegistryRead, thermo-1 has "
                          "DeviceConnect"));
  }
  EXPECT_THAT(ask(kForeignKey, "thermo-1"), HasSubstr("signature is not one"));
  EXPECT_THAT(ask(keys.Find("primaryKey").string_value(), "thermo-2"),
              HasSubstr("signature is not one"));
}

// Connections without a request are closed at once.
TEST(CliHubTest, DrainsAtSigterm) {
  ServerProcess server({"--http", "127.0.0.1:0", "--insecure"});
  const int port = HttpPort(server);
  HttpClient kept(port);
  ASSERT_TRUE(
      kept.Send("GET /jobs/v2/query?api-version=2021-04-12 HTTP/1.1\r\n"
                "Host: h\r\n\r\n"));
  ASSERT_EQ(kept.Read()->status, 200);
  server.process().Signal(SIGTERM);
  EXPECT_TRUE(kept.AtEnd());
  const Result end = server.End(0);  // It has its signal already.
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_THAT(end.err, HasSubstr("drained in "));
}

// A request that is still on its way in when the time is over, of as many
// connections as have one.
TEST(CliHubTest, ADrainSaysWhatItHasCutOff) {
  ServerProcess server(
      {"--http", "127.0.0.1:0", "--insecure", "--drain-seconds", "1"});
  const int port = HttpPort(server);
  HttpClient quiet(port);
  ASSERT_TRUE(
      quiet.Send("GET /jobs/v2/query?api-version=2021-04-12 HTTP/1.1\r\n"
                 "Host: h\r\n\r\n"));
  ASSERT_EQ(quiet.Read()->status, 200);
  // That the server has them is seen from the 100 that it asks the bodies with.
  HttpClient slow[2] = {HttpClient(port), HttpClient(port)};
  for (HttpClient& client : slow) {
    ASSERT_TRUE(client.Send(
        "POST /devices/query?api-version=2021-04-12 HTTP/1.1\r\n"
        "Host: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"));
    ASSERT_TRUE(client.Read()->status == 100);
  }
  server.process().Signal(SIGTERM);
  const Result end = server.End(0);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_THAT(end.err, HasSubstr("what was under way after 1.00 s was cut off, "
                                 "2 requests of the hub's API among it\n"));
  EXPECT_THAT(end.err, Not(HasSubstr("drained in")));
}

// What a query may cost is for gRPC and the hub's API alike.
TEST(CliHubTest, AQueryMayNotCostMore) {
  ServerProcess server(
      {"--http", "127.0.0.1:0", "--insecure", "--query-cost-max", "1"});
  const Hub hub = {HttpPort(server), nullptr};
  const auto ask = [&](absl::string_view statement) {
    return hub.Ask("POST", "/devices/query", "",
                   absl::StrCat(R"({"query":")", statement, "\"}"));
  };
  EXPECT_EQ(ask("SELECT * FROM devices WHERE tags.a = 1").status, 200);
  const std::string costly =
      "SELECT * FROM devices WHERE tags.a = 1 OR tags.b = 1";
  const HttpAnswer answer = ask(costly);
  EXPECT_EQ(answer.status, 403) << answer.body;
  EXPECT_THAT(answer.body, HasSubstr("ErrorCode:IotHubQuotaExceeded;the "
                                     "query's condition has the weight 2"));
  EXPECT_THAT(server.Call({"twin", "query", costly}).err,
              HasSubstr("the query's condition has the weight 2"));
}

// A query each 3 seconds, and 20 at once.
TEST(CliHubTest, AProfileBringsItsRates) {
  ServerProcess server(
      {"--http", "127.0.0.1:0", "--insecure", "--profile", "s1"});
  const Hub hub = {HttpPort(server), nullptr};
  HttpAnswer answer;
  int taken = -1;
  do {
    answer = hub.Ask("POST", "/devices/query", "",
                     R"({"query":"SELECT * FROM devices"})");
    ++taken;
  } while (answer.status == 200);
  EXPECT_EQ(answer.status, 429) << answer.body;
  EXPECT_THAT(answer.body, HasSubstr("ErrorCode:ThrottlingException;"));
  EXPECT_GE(taken, 20);
}

TEST(CliHubTest, BadFlagsAreNamed) {
  const std::string owner = absl::StrCat("iothubowner=", kOwnerKey);
  const std::string short_key = Write("short.key", "c2VjcmV0");
  const struct {
    std::vector<std::string> flags;
    std::string what;
  } kCases[] = {
      {{"--http", "127.0.0.1:0"},
       "clients of the hub's API speak TLS alone: --http needs --tls-cert"},
      {{"--http", "443", "--insecure"},
       "--http must be HOST:PORT; got \"443\""},
      {{"--http", "0.0.0.0:443", "--tls-cert", "c", "--tls-key", "k"},
       "others reach 0.0.0.0:443, and everybody could do everything: --access "
       "FILE, --policy, or --insecure if you mean it"},
      {{"--http-threads", "4"}, "--http-threads needs --http"},
      {{"--http-connections-max", "4"}, "--http-connections-max needs --http"},
      {{"--hub-name", "hub"}, "--hub-name needs --access or --policy"},
      {{"--policy", owner}, "--policy needs --hub-name"},
      {{"--policy", "iothubowner"}, "--policy iothubowner has no key"},
      {{"--policy", "owner=x"},
       "--policy must be NAME=KEY[,SECONDARY], where NAME is iothubowner, "
       "service, device, registryRead or registryReadWrite; got \"owner\""},
      {{"--policy", std::string(kOwnerKey)},
       "registryRead or registryReadWrite\n"},
      {{"--policy", "service=c2VjcmV0LXNlY3J!"},
       "--policy service: a key must be base64"},
      {{"--policy", "service=c2VjcmV0"},
       "--policy service: a key must have 16 to 256 bytes; got 6"},
      {{"--policy", absl::StrCat("service=@", short_key)},
       "--policy service: a key must have 16 to 256 bytes; got 6"},
      {{"--policy", absl::StrCat("service=@", Path("no.key"))},
       absl::StrCat("--policy service: ", Path("no.key"))},
      {{"--policy", absl::StrCat(owner, ",", kReaderKey, ",", kReaderNewKey)},
       "--policy iothubowner has 3 keys; two are the most"},
      {{"--policy", owner, "--policy", owner, "--hub-name", "h"},
       "--policy iothubowner is given twice"},
      {{"--policy", owner, "--hub-name", "a/b"},
       "hub_name: policies need a hub's name"},
      {{"--http", "127.0.0.1:0", "--tls-cert", Path("no.pem"), "--tls-key",
        Path("no.pem"), "--listen", "127.0.0.1:0"},
       Path("no.pem")},
      {{"--devices", "3"}, "--devices needs --dev"},
      {{"--dev", "--access", "a.json"},
       "--dev makes its own certificate and policy, and has no --access"},
      {{"--dev", "--policy", owner}, "and has no --policy"},
      {{"--dev", "--tls-cert", "c", "--tls-key", "k"}, "and has no --tls-cert"},
      {{"--dev", "--listen", "0.0.0.0:7040"}, "others reach 0.0.0.0:7040"},
      {{"--dev", "--data", Path("no/such/folder")}, Path("no/such")},
  };
  for (const auto& [flags, what] : kCases) {
    std::vector<std::string> words = {"serve"};
    words.insert(words.end(), flags.begin(), flags.end());
    const Result result = Muster(words);
    EXPECT_EQ(result.exit_code, 2) << what;
    EXPECT_THAT(result.err, HasSubstr(what));
    for (const absl::string_view secret :
         {absl::string_view("c2VjcmV0"), kOwnerKey, kReaderKey}) {
      EXPECT_THAT(result.err, Not(HasSubstr(std::string(secret))));
    }
  }
  // The file that serve's own policies stand beside.
  const std::string access =
      Write("same.json",
            absl::StrCat(R"({"policies":[{"name":"service","roles":)",
                         R"(["read"],"primaryKey":")", kReaderKey, R"("}]})"));
  const Result same = Muster({"serve", "--access", access, "--hub-name", "h",
                              "--policy", absl::StrCat("service=", kOwnerKey)});
  EXPECT_EQ(same.exit_code, 2);
  EXPECT_THAT(same.err, HasSubstr(absl::StrCat(
                            access, ": policies[0].name: \"service\" is also ",
                            "the name of default_policies[0]")));
}

// ---------------------------------------------------------------- serve --dev

// What `--dev` shows to be pasted.
std::string ConnectionString(ServerProcess& server) {
  return TextBetween(server.process().text(0), "\n  HostName=", "\n");
}

TEST(CliHubTest, ADevHubStaysTheSame) {
  const std::string data = Path("dev-hub");
  ServerProcess server({"--dev", "--data", data, "--http", "127.0.0.1:0",
                        "--devices", "3", "--drain-seconds", "2"});
  const std::string text = server.process().text(0);
  const std::string connection = ConnectionString(server);
  const std::string certificate = absl::StrCat(data, "/dev/cert.pem");
  EXPECT_THAT(connection, HasSubstr("localhost;SharedAccessKeyName=iothubowner;"
                                    "SharedAccessKey="));
  EXPECT_THAT(text, HasSubstr(absl::StrCat(
                        "\n  export NODE_EXTRA_CA_CERTS=", certificate, "\n")));
  EXPECT_THAT(text, HasSubstr("curl --cacert "));
  // Not HTTPS's port: how clients get to it.
  EXPECT_THAT(text, HasSubstr("\"Another port\""));
  EXPECT_EQ(ModeOf(absl::StrCat(data, "/dev")), 0700u);
  for (const absl::string_view name : {"cert.pem", "key.pem", "policy.key"}) {
    EXPECT_EQ(ModeOf(absl::StrCat(data, "/dev/", name)), 0600u) << name;
  }
  const std::string key = connection.substr(connection.find("Key=") + 4);
  EXPECT_EQ(Read(absl::StrCat(data, "/dev/policy.key")), key + "\n");

  const auto ask = [&](absl::string_view method, absl::string_view path,
                       absl::string_view body = "") {
    const Hub hub = {HttpPort(server), ClientTls(certificate)};
    const HttpAnswer answer =
        hub.Ask(method, path, Token(key, "localhost", "iothubowner"), body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.body;
  };
  const auto keys_of = [&](absl::string_view id) {
    return TextBetween(ask("GET", absl::StrCat("/devices/", id)),
                       "\"symmetricKey\":", "}");
  };
  // Its devices are registered, are the synthetic fleet's, and answer.
  const std::string keys = keys_of("dev-00000002");
  EXPECT_THAT(keys, AllOf(HasSubstr("\"primaryKey\":\""), HasSubstr("=\"")));
  EXPECT_THAT(
      ask("POST", "/devices/query",
          R"({"query":"SELECT tags.location FROM devices WHERE deviceId = 'dev-00000002'"})"),
      HasSubstr("\"building\":"));
  const std::vector<Json> job =
      server.CallJson({"job", "create", "--method", "hello", "--condition", "*",
                       "--watch", "--quiet"});
  ASSERT_FALSE(job.empty());
  const JobCounts counts = CountsOf(job.back().view());
  EXPECT_EQ(counts.devices, 3);
  EXPECT_EQ(counts.succeeded, 3);
  ask("PUT", "/devices/mine", R"({"deviceId":"mine"})");
  const std::string mine = keys_of("mine");
  const std::string pem = Read(certificate);

  server.End(SIGKILL);
  server.Restart();
  EXPECT_EQ(ConnectionString(server), connection);
  EXPECT_EQ(Read(certificate), pem);
  EXPECT_EQ(keys_of("dev-00000002"), keys);
  EXPECT_EQ(keys_of("mine"), mine);
  const Result end = server.End(SIGTERM);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_THAT(end.err, HasSubstr("simulates 3 devices, 0 of them new"));
  EXPECT_THAT(end.err, HasSubstr("drained in "));
}

// Other machines know a hub by another name: its certificate follows, its key
// stays.
TEST(CliHubTest, ADevHubByAnotherName) {
  const std::string data = Path("named-hub");
  const auto start = [&](std::vector<std::string> more) {
    std::vector<std::string> flags = {"--dev", "--data", data, "--http",
                                      "127.0.0.1:0"};
    flags.insert(flags.end(), more.begin(), more.end());
    ServerProcess server(flags);
    const std::string key =
        TextBetween(ConnectionString(server), "SharedAccessKey=", "\n");
    const std::string name = TextBetween(ConnectionString(server), "", ";");
    const Hub hub = {HttpPort(server),
                     ClientTls(absl::StrCat(data, "/dev/cert.pem"))};
    EXPECT_EQ(hub.Ask("GET", "/jobs/v2/query", Token(key, name, "iothubowner"))
                  .status,
              200);
    server.End(SIGTERM);
    return std::pair(key, Read(absl::StrCat(data, "/dev/cert.pem")));
  };
  const auto first = start({});
  const auto named = start({"--hub-name", "hub.test"});
  const auto again = start({"--hub-name", "hub.test"});
  EXPECT_EQ(named.first, first.first);
  EXPECT_NE(named.second, first.second);
  EXPECT_EQ(again, named);
  // "localhost" is in every one.
  EXPECT_EQ(start({}), named);
}

TEST(CliHubTest, WhatAPersonHasBrokenIsNamed) {
  const std::string data = Path("broken-hub");
  const std::vector<std::string> flags = {
      "serve",  "--dev",       "--data",   data,
      "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"};
  {
    ServerProcess server({"--dev", "--data", data, "--http", "127.0.0.1:0"});
    EXPECT_EQ(server.End(SIGTERM).exit_code, 0);
  }
  Write("broken-hub/dev/policy.key", "bm90IGxvbmc=\n");
  const Result key = Muster(flags);
  EXPECT_EQ(key.exit_code, 2);
  EXPECT_THAT(key.err,
              AllOf(HasSubstr("policy.key: a key must have 16 to 256 bytes"),
                    Not(HasSubstr("bm90IGxvbmc="))));
}

}  // namespace
}  // namespace muster
