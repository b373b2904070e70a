// The hub's REST surface as a process: jobs that a back end follows over HTTPS
// while the server is killed, or drained, and started again.  What has once
// been read stays true.
//
//   bazel run --config=opt //tests:hub_process_test -- --devices=50000
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
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

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Flags.
int64_t gateways = 2;
int64_t devices_each = 1'000;

int64_t Devices() { return gateways * devices_each; }

constexpr absl::string_view kHub = "hub.example.net";
constexpr absl::string_view kPolicy = "everything";
constexpr absl::string_view kVersion = "api-version=2021-04-12";
constexpr int64_t kBulk = 100;  // Devices of a request, rows of a page.

// Devices that take up to a second for their answers, so that there is a
// middle.
constexpr char kSlow[] = R"({"latency": {"distribution": "uniform",
                                         "min_ms": 100, "max_ms": 1000}})";

std::string IdOf(int64_t row) { return absl::StrFormat("dev-%08d", row); }

// What a back end has: connections that it makes anew when they break.  One
// thread.
class BackEnd {
 public:
  // `*port` is where the hub is; 0 while it is nowhere.
  BackEnd(const std::atomic<int>* port, std::shared_ptr<SSL_CTX> tls,
          std::string token)
      : port_(*port), tls_(std::move(tls)), token_(std::move(token)) {}

  // nullopt if there is no hub, or the connection broke before the answer.
  std::optional<HttpAnswer> TryCall(absl::string_view method,
                                    absl::string_view target,
                                    absl::string_view body = "",
                                    absl::string_view more_headers = "") {
    const int port = port_.load();
    if (client_ == nullptr || port != connected_to_) {
      client_ = nullptr;
      if (port == 0) return std::nullopt;
      client_ = std::make_unique<HttpClient>(port, tls_);
      connected_to_ = port;
    }
    std::optional<HttpAnswer> answer;
    if (client_->secured() &&
        client_->Send(absl::StrCat(
            method, " ", target, " HTTP/1.1\r\nHost: ", kHub,
            "\r\nAuthorization: ", token_, "\r\n", more_headers,
            body.empty() ? "" : "Content-Type: application/json\r\n",
            "Content-Length: ", body.size(), "\r\n\r\n", body))) {
      answer = client_->Read();
    }
    if (!answer.has_value()) client_ = nullptr;
    return answer;
  }

  // The same of a hub that is there, which answers 200; undefined otherwise.
  Json Call(absl::string_view method, absl::string_view target,
            absl::string_view body = "", absl::string_view more_headers = "") {
    const std::optional<HttpAnswer> answer =
        TryCall(method, target, body, more_headers);
    EXPECT_TRUE(answer.has_value()) << method << " " << target;
    if (!answer.has_value()) return Json();
    EXPECT_EQ(answer->status, 200) << answer->body;
    const auto found = answer->headers.find("x-ms-continuation");
    continuation_ = found == answer->headers.end() ? "" : found->second;
    absl::StatusOr<Json> json = ParseJson(answer->body);
    EXPECT_TRUE(json.ok()) << answer->body;
    return json.ok() ? *std::move(json) : Json();
  }
  // Of the last Call(): where its next page is; "" if there is none.
  const std::string& continuation() const { return continuation_; }

 private:
  const std::atomic<int>& port_;
  const std::shared_ptr<SSL_CTX> tls_;
  const std::string token_;
  std::unique_ptr<HttpClient> client_;
  int connected_to_ = 0;
  std::string continuation_;
};

// Reads a job again and again, from a thread of its own, also while the hub is
// gone, and checks at every read what has to hold.
class Poller {
 public:
  Poller(BackEnd back_end, std::string job_id)
      : back_end_(std::move(back_end)),
        target_(absl::StrCat("/jobs/v2/", job_id, "?", kVersion)),
        thread_([this] { Run(); }) {}
  ~Poller() {
    stop_ = true;
    thread_.join();
  }

  // Returns once the job is as wanted, or has ended.
  template <typename Wanted>
  JobCounts Await(const Wanted& wanted) {
    absl::MutexLock lock(&mutex_);
    const auto reached = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return last_.terminal() || wanted(last_);
    };
    EXPECT_TRUE(
        mutex_.AwaitWithTimeout(absl::Condition(&reached), absl::Minutes(4)));
    return last_;
  }
  // When so many have succeeded, and not all.
  JobCounts AwaitMiddle(double share) {
    const JobCounts counts = Await([share](const JobCounts& now) {
      return static_cast<double>(now.succeeded) >
             share * static_cast<double>(Devices());
    });
    EXPECT_EQ(counts.status, "running");
    std::cout << "in the middle: " << Text(counts) << "\n";
    return counts;
  }
  JobCounts AwaitEnd() {
    const JobCounts counts = Await([](const JobCounts&) { return false; });
    absl::MutexLock lock(&mutex_);
    std::cout << reads_ << " reads, " << failures_
              << " failed while the hub was gone; the last: " << Text(counts)
              << "\n";
    return counts;
  }

 private:
  static std::string Text(const JobCounts& c) {
    return absl::StrCat(c.status, ", ", c.devices, " / f", c.failed, " s",
                        c.succeeded, " r", c.running, " p", c.pending);
  }

  void Run() {
    for (; !stop_; absl::SleepFor(absl::Milliseconds(1))) {
      const std::optional<HttpAnswer> answer =
          back_end_.TryCall("GET", target_);
      if (!answer.has_value()) {
        absl::MutexLock lock(&mutex_);
        ++failures_;
        continue;
      }
      // A hub that ends may say so.
      if (answer->status == 503) continue;
      ASSERT_EQ(answer->status, 200) << answer->body;
      const absl::StatusOr<Json> job = ParseJson(answer->body);
      ASSERT_TRUE(job.ok()) << answer->body;
      const JobCounts now = CountsOf(job->view());  // Checks the sum.
      absl::MutexLock lock(&mutex_);
      ++reads_;
      // What has been read stays true, whatever has been in between.
      EXPECT_GE(now.devices, last_.devices) << answer->body;
      EXPECT_GE(now.succeeded, last_.succeeded) << answer->body;
      EXPECT_GE(now.failed, last_.failed) << answer->body;
      if (last_.devices > 0) {
        EXPECT_EQ(now.devices, last_.devices) << answer->body;
      }
      if (last_.status == "running") {
        EXPECT_NE(now.status, "queued");
        EXPECT_NE(now.status, "scheduled");
      }
      if (last_.terminal()) {
        EXPECT_EQ(Text(now), Text(last_));
      }
      last_ = now;
    }
  }

  BackEnd back_end_;
  const std::string target_;
  std::atomic<bool> stop_ = false;
  absl::Mutex mutex_;
  JobCounts last_ ABSL_GUARDED_BY(mutex_);
  int64_t reads_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

class HubProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = absl::StrCat(
        ::testing::TempDir(), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    slow_ = absl::StrCat(folder, "/slow.json");
    std::ofstream(slow_) << kSlow;
    data_ = absl::StrCat(folder, "/data");
    const std::string key = absl::Base64Escape(std::string(32, 'k'));
    access_ = absl::StrCat(folder, "/access.json");
    std::ofstream(access_) << R"({"policies": [{"name": ")" << kPolicy
                           << R"(", "roles": ["write", "gateway",
                                 "RegistryWrite", "ServiceConnect"],
                                 "primaryKey": ")"
                           << key << R"("}]})";
    token_ = SasKey::FromBase64(key)->MakeToken(kHub, kPolicy,
                                                absl::Now() + absl::Hours(1));
    setenv("MUSTER_TOKEN", token_.c_str(), /*overwrite=*/1);
    certificate_ =
        authority_.Issue({.alternative_names = "DNS:localhost,IP:127.0.0.1"});
  }
  void TearDown() override {
    for (auto& gateway : gateways_) {
      gateway->Signal(SIGKILL);
      gateway->Wait();
    }
  }

  // A hub, and its devices through its own API.
  void StartHub(const std::vector<std::string>& more = {}) {
    std::vector<std::string> flags = {
        "--http",     "127.0.0.1:0",
        "--tls-cert", certificate_.certificate_path,
        "--tls-key",  certificate_.key_path,
        "--access",   access_,
        "--hub-name", std::string(kHub),
        "--data",     data_};
    flags.insert(flags.end(), more.begin(), more.end());
    server_ = std::make_unique<ServerProcess>(flags);
    FindPort();
    back_end_ = std::make_unique<BackEnd>(MakeBackEnd());
    const absl::Time begin = absl::Now();
    for (int64_t row = 0; row < Devices();) {
      std::string body;
      JsonWriter out(&body);
      out.BeginArray();
      for (const int64_t end = std::min(row + kBulk, Devices()); row < end;) {
        out.BeginObject().Key("id").String(IdOf(row++));
        out.Key("importMode").String("create").EndObject();
      }
      out.EndArray();
      const Json answer =
          back_end_->Call("POST", absl::StrCat("/devices?", kVersion), body);
      ASSERT_TRUE(answer.view().Find("isSuccessful").is_bool());
      ASSERT_TRUE(answer.view().Find("isSuccessful").bool_value());
    }
    std::cout << Devices() << " devices made in " << absl::Now() - begin
              << "\n";
  }

  BackEnd MakeBackEnd() {
    return BackEnd(&port_, ClientTls(authority_.path()), token_);
  }

  // `count` more.  Their devices are attached when it returns.
  void StartGateways(int64_t count) {
    const int64_t first = static_cast<int64_t>(gateways_.size());
    for (int64_t i = first; i < first + count; ++i) {
      gateways_.push_back(server_->Begin(
          {"fleet", "gateway", "--name", absl::StrCat("gateway-", i), "--first",
           absl::StrCat(i * devices_each), "--devices",
           absl::StrCat(devices_each), "--devices-config", slow_, "--credit",
           absl::StrCat(devices_each / 4), "--tls-ca", authority_.path(),
           "--output", "json"}));
    }
    for (int64_t i = first; i < first + count; ++i) {
      ASSERT_TRUE(gateways_[static_cast<size_t>(i)]->WaitFor(
          0, absl::StrCat("\"attachedDevices\":", devices_each, ",")));
    }
  }

  void CreateJob(absl::string_view id, absl::string_view members) {
    const Json made = back_end_->Call(
        "PUT", absl::StrCat("/jobs/v2/", id, "?", kVersion),
        absl::StrCat(R"({"queryCondition":"*",)", members, "}"));
    EXPECT_EQ(made.view().Find("status").string_value(), "queued");
  }
  void CreateMethodJob(absl::string_view id) {
    CreateJob(id, R"("type":"scheduleDeviceMethod",
                     "cloudToDeviceMethod":{"methodName":"reboot"})");
  }

  Result End(int signal_number) {
    const Result result = server_->End(signal_number);
    port_ = 0;
    return result;
  }
  void Restart() {
    const absl::Time begin = absl::Now();
    server_->Restart();
    FindPort();
    std::cout << "serves again after " << absl::Now() - begin << "\n";
  }
  void FindPort() {
    int port = 0;
    ASSERT_TRUE(absl::SimpleAtoi(
        TextBetween(server_->process().text(0), "https://127.0.0.1:", " "),
        &port));
    port_ = port;
  }

  // Page after page: every device is in the job once, in a terminal state, and
  // each state as often as the job counts it.  Returns the names of errors with
  // their counts.
  std::map<std::string, int64_t> CheckRows(absl::string_view id,
                                           const JobCounts& counts) {
    const std::string body = absl::StrCat(
        R"({"query":"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = ')",
        id, R"('"})");
    std::map<std::string, int64_t> by_status;
    std::map<std::string, int64_t> errors;
    int64_t row = 0;
    std::string headers;
    do {
      const Json page = back_end_->Call(
          "POST", absl::StrCat("/devices/query?", kVersion), body, headers);
      for (const JsonView r : page.view().elements()) {
        // By their ids in ascending order, so that none is there twice.
        EXPECT_EQ(r.Find("deviceId").string_value(), IdOf(row++));
        ++by_status[std::string(r.Find("status").string_value())];
        if (r.Find("error").is_object()) {
          ++errors[std::string(r.Find("error").Find("code").string_value())];
        }
      }
      headers = absl::StrCat("x-ms-continuation: ", back_end_->continuation(),
                             "\r\n");
    } while (!back_end_->continuation().empty());
    EXPECT_EQ(row, Devices());
    EXPECT_EQ(counts.devices, Devices());
    EXPECT_EQ(counts.running + counts.pending, 0);
    EXPECT_EQ(by_status["completed"], counts.succeeded);
    EXPECT_EQ(by_status["failed"], counts.failed);
    EXPECT_EQ(counts.succeeded + counts.failed, Devices());
    return errors;
  }

  // Ends the gateways; how often devices were called.
  int64_t EndGateways() {
    int64_t calls = 0;
    for (auto& gateway : gateways_) gateway->Signal(SIGTERM);
    for (auto& gateway : gateways_) {
      const Result result = gateway->Wait();
      EXPECT_EQ(result.exit_code, 0) << result.err;
      const std::vector<Json> lines = JsonLines(result.out);
      calls += lines.back().view().Find("calls").int_value();
    }
    gateways_.clear();
    return calls;
  }

  TestAuthority authority_{"authority"};
  TestCertificate certificate_;
  std::string slow_;
  std::string data_;
  std::string access_;
  std::string token_;
  std::atomic<int> port_ = 0;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<BackEnd> back_end_;
  std::vector<std::unique_ptr<Process>> gateways_;
};

// Contract 10.4, V22.
TEST_F(HubProcessTest, AMethodJobWhoseHubIsKilled) {
  StartHub();
  // The last gateway's devices are waited for.
  StartGateways(gateways - 1);
  const std::string identity =
      absl::StrCat("/devices/", IdOf(Devices() / 2), "?", kVersion);
  const Json before = back_end_->Call("GET", identity);
  CreateMethodJob("killed");
  Poller poller(MakeBackEnd(), "killed");
  const JobCounts middle = poller.AwaitMiddle(0.1);
  EXPECT_EQ(End(SIGKILL).exit_code, 128 + SIGKILL);
  Restart();
  StartGateways(1);
  const JobCounts counts = poller.AwaitEnd();
  EXPECT_EQ(counts.status, "completed");
  // What was in flight has failed, what was pending was served.
  EXPECT_GT(counts.failed, 0);
  EXPECT_GE(counts.succeeded, middle.succeeded + devices_each);
  for (const auto& [error, count] : CheckRows("killed", counts)) {
    EXPECT_EQ(error, "GatewayTimeout") << count;
  }
  // Nobody was called twice.
  const int64_t calls = EndGateways();
  EXPECT_GE(calls, counts.succeeded);
  EXPECT_LE(calls, Devices());
  // Identities are as durable: the device's keys are the same.
  const Json after = back_end_->Call("GET", identity);
  for (const absl::string_view name :
       {"generationId", "etag", "authentication"}) {
    EXPECT_EQ(Json(after.view().Find(name)), Json(before.view().Find(name)))
        << name;
    EXPECT_FALSE(after.view().Find(name).is_undefined()) << name;
  }
}

TEST_F(HubProcessTest, ATwinJobWhoseHubIsKilled) {
  // Paced: some seconds for all of them (contract 9.2, 50/s for a unit).
  const int64_t units = std::clamp<int64_t>(Devices() / 200, 1, 200);
  StartHub({"--profile", "s3", "--units", absl::StrCat(units)});
  CreateJob("killed", R"("type":"scheduleUpdateTwin",
                         "updateTwin":{"properties":{"desired":{"fw":"2.1"}}})");
  Poller poller(MakeBackEnd(), "killed");
  poller.AwaitMiddle(0.3);
  EXPECT_EQ(End(SIGKILL).exit_code, 128 + SIGKILL);
  Restart();
  const JobCounts counts = poller.AwaitEnd();
  EXPECT_EQ(counts.status, "completed");
  EXPECT_EQ(counts.succeeded, Devices());
  EXPECT_THAT(CheckRows("killed", counts), IsEmpty());
  // Every twin has the patch, and has had it once.
  const Json rows = back_end_->Call(
      "POST", absl::StrCat("/devices/query?", kVersion),
      R"({"query":"SELECT COUNT() AS n FROM devices WHERE )"
      R"(properties.desired.fw = '2.1' AND properties.desired.$version = 2"})");
  ASSERT_TRUE(rows.view().At(0).Find("n").is_integer());
  EXPECT_EQ(rows.view().At(0).Find("n").int_value(), Devices());
}

TEST_F(HubProcessTest, ADrainLosesNothing) {
  StartHub();
  StartGateways(gateways);
  CreateMethodJob("drained");
  Poller poller(MakeBackEnd(), "drained");
  poller.AwaitMiddle(0.2);
  const Result drained = End(SIGTERM);
  EXPECT_EQ(drained.exit_code, 0);
  EXPECT_THAT(drained.err, HasSubstr("\ndrained in "));
  Restart();
  const JobCounts counts = poller.AwaitEnd();
  EXPECT_EQ(counts.status, "completed");
  EXPECT_EQ(counts.succeeded, Devices());
  EXPECT_THAT(CheckRows("drained", counts), IsEmpty());
  EXPECT_EQ(EndGateways(), Devices());
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> flag =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    int64_t* const target = flag.first == "--gateways"  ? &muster::gateways
                            : flag.first == "--devices" ? &muster::devices_each
                                                        : nullptr;
    if (target == nullptr || !absl::SimpleAtoi(flag.second, target)) {
      std::cerr << argv[i] << ": --gateways=N or --devices=N (of each)\n";
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
