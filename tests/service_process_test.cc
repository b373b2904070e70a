// A service of many processes: `muster serve`, gateways, jobs over all devices,
// and processes that are killed in the middle.  The books are exact at the end.
//
//   bazel run --config=opt //tests:service_process_test -- --devices=250000
#include "tests/service_process.h"

#include <signal.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli_process.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Flags.
int64_t gateways = 4;
int64_t devices_each = 2'500;

int64_t Devices() { return gateways * devices_each; }

// Devices that take up to a second for their answers, so that there is a
// middle.
constexpr char kSlow[] = R"({"latency": {"distribution": "uniform",
                                         "min_ms": 100, "max_ms": 1000}})";

class ServiceProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = absl::StrCat(
        ::testing::TempDir(), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    slow_ = absl::StrCat(folder, "/slow.json");
    std::ofstream(slow_) << kSlow;
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"--data", absl::StrCat(folder, "/data")});
    Import(absl::StrCat(folder, "/twins.jsonl"));
  }
  void TearDown() override {
    for (auto& gateway : gateways_) {
      gateway->Signal(SIGKILL);
      gateway->Wait();
    }
  }

  void Import(const std::string& path) {
    {
      std::ofstream file(path, std::ios::binary);
      // All enabled, unlike those of the synthetic fleet.
      std::string lines;
      for (int64_t row = 0; row < Devices(); ++row) {
        absl::StrAppend(&lines, R"({"deviceId": "dev-)",
                        absl::Dec(row, absl::kZeroPad8),
                        R"(", "tags": {"floor": )", row % 40, "}}\n");
        if (lines.size() < 1 << 20 && row + 1 < Devices()) continue;
        file << lines;
        lines.clear();
      }
    }
    const absl::Time begin = absl::Now();
    const Result result = server_->Call({"twin", "import", path, "--quiet"});
    ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
    std::cout << "imported in " << absl::Now() - begin << "\n";
  }

  std::unique_ptr<Process> StartGateway(int64_t index,
                                        const std::vector<std::string>& more) {
    std::vector<std::string> words = {
        "fleet",     "gateway",
        "--name",    absl::StrCat("gateway-", index),
        "--first",   absl::StrCat(index * devices_each),
        "--devices", absl::StrCat(devices_each),
        "--output",  "json"};
    words.insert(words.end(), more.begin(), more.end());
    return server_->Begin(words);
  }
  void StartGateways(const std::vector<std::string>& more = {}) {
    const absl::Time begin = absl::Now();
    for (int64_t i = 0; i < gateways; ++i) {
      gateways_.push_back(StartGateway(i, more));
    }
    for (auto& gateway : gateways_) WaitAttached(*gateway);
    std::cout << "attached in " << absl::Now() - begin << "\n";
  }
  static void WaitAttached(Process& gateway) {
    ASSERT_TRUE(gateway.WaitFor(
        0, absl::StrCat("\"attachedDevices\":", devices_each, ",")));
  }

  // A method on every device.
  void CreateJob(const std::string& id) {
    const Result result =
        server_->Call({"job", "create", "--id", id, "--method", "reboot",
                       "--condition", "*"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }

  JobCounts Counts(const std::string& id) {
    const std::vector<Json> job = server_->CallJson({"job", "get", id});
    return job.empty() ? JobCounts() : CountsOf(job[0].view());
  }

  // Returns when `share` of the devices have succeeded, and not all.
  void AwaitMiddle(const std::string& id, double share) {
    JobCounts counts;
    do {
      counts = Counts(id);
      ASSERT_FALSE(counts.terminal());
    } while (static_cast<double>(counts.succeeded) <
             share * static_cast<double>(Devices()));
    std::cout << "in the middle: " << counts.succeeded << " succeeded, "
              << counts.running << " running, " << counts.pending
              << " pending\n";
  }

  // Follows the job to its end.
  JobCounts Finish(const std::string& id) {
    const std::vector<Json> states =
        JsonLines(server_->Call({"job", "watch", id, "--output", "json"}).out);
    if (states.empty()) return JobCounts();
    return CountsOf(states.back().view());
  }

  // Ends the gateways; the sums of what they have counted.
  struct GatewaySums {
    int64_t calls = 0;
    int64_t answers = 0;
  };
  GatewaySums EndGateways() {
    GatewaySums sums;
    for (auto& gateway : gateways_) gateway->Signal(SIGTERM);
    for (auto& gateway : gateways_) {
      const Result result = gateway->Wait();
      EXPECT_EQ(result.exit_code, 0) << result.err;
      EXPECT_EQ(result.err, "");
      const Json last = std::move(JsonLines(result.out).back());
      sums.calls += last.view().Find("calls").int_value();
      sums.answers += last.view().Find("answers").int_value();
    }
    gateways_.clear();
    return sums;
  }

  // Every device is in the job once, in a terminal state, and each state as
  // often as the job counts it.  Returns the names of errors with their counts.
  std::map<std::string, int64_t> CheckExecutions(const std::string& id,
                                                 const JobCounts& counts) {
    std::set<std::string> seen;
    std::map<std::string, int64_t> by_status;
    std::map<std::string, int64_t> errors;
    const Result result = server_->Call(
        {"job", "executions", id, "--rows", "0", "--output", "json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    for (const std::string& line : Lines(result.out)) {
      absl::StatusOr<Json> record = ParseJson(line);
      EXPECT_TRUE(record.ok());
      if (!record.ok()) break;
      const JsonView r = record->view();
      EXPECT_TRUE(seen.emplace(r.Find("deviceId").string_value()).second);
      ++by_status[std::string(r.Find("status").string_value())];
      const JsonView error = r.Find("error");
      if (error.is_object()) {
        ++errors[std::string(error.Find("code").string_value())];
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), Devices());
    EXPECT_EQ(by_status["completed"], counts.succeeded);
    EXPECT_EQ(by_status["failed"], counts.failed);
    EXPECT_EQ(counts.running + counts.pending, 0);
    EXPECT_EQ(counts.succeeded + counts.failed, Devices());
    EXPECT_EQ(counts.devices, Devices());
    for (const auto& [error, count] : errors) {
      std::cout << "  " << count << " " << error << "\n";
    }
    return errors;
  }

  std::string slow_;
  std::unique_ptr<ServerProcess> server_;
  std::vector<std::unique_ptr<Process>> gateways_;
};

TEST_F(ServiceProcessTest, AMethodReachesEveryDeviceOfEveryGateway) {
  StartGateways();
  const absl::Time begin = absl::Now();
  CreateJob("all");
  const JobCounts counts = Finish("all");
  std::cout << Devices() << " methods in " << absl::Now() - begin
            << ", as a user sees it\n";
  EXPECT_EQ(counts.status, "completed");
  EXPECT_EQ(counts.succeeded, Devices());
  EXPECT_THAT(CheckExecutions("all", counts), IsEmpty());
  const GatewaySums sums = EndGateways();
  EXPECT_EQ(sums.calls, Devices());
  EXPECT_EQ(sums.answers, Devices());
}

// What it had in its hands has failed, the rest goes on when it is back.
TEST_F(ServiceProcessTest, AGatewayIsKilledInTheMiddle) {
  // So that some of its devices have not been called yet.
  const std::vector<std::string> more = {"--devices-config", slow_, "--credit",
                                         absl::StrCat(devices_each / 4)};
  StartGateways(more);
  CreateJob("killed-gateway");
  AwaitMiddle("killed-gateway", 0.2);
  gateways_[1]->Signal(SIGKILL);
  EXPECT_EQ(gateways_[1]->Wait().exit_code, 128 + SIGKILL);
  gateways_[1] = StartGateway(1, more);
  const JobCounts counts = Finish("killed-gateway");
  EXPECT_EQ(counts.status, "completed");
  CheckExecutions("killed-gateway", counts);
  std::cout << counts.failed << " failed with the gateway\n";
  // No more than it could have in its hands, and none of the others'.
  EXPECT_LE(counts.failed, devices_each / 4);
  EXPECT_GT(counts.failed, 0);
  const GatewaySums sums = EndGateways();
  EXPECT_LE(sums.answers, counts.succeeded);
}

TEST_F(ServiceProcessTest, TheServerIsKilledInTheMiddle) {
  StartGateways(
      {"--devices-config", slow_, "--credit", absl::StrCat(devices_each / 4)});
  CreateJob("killed-server");
  AwaitMiddle("killed-server", 0.2);
  const JobCounts before = Counts("killed-server");
  EXPECT_EQ(server_->End(SIGKILL).exit_code, 128 + SIGKILL);
  const absl::Time begin = absl::Now();
  server_->Restart();
  std::cout << "serves again after " << absl::Now() - begin << "\n";
  const JobCounts counts = Finish("killed-server");
  EXPECT_EQ(counts.status, "completed");
  // What has been shown stays true.
  EXPECT_GE(counts.succeeded, before.succeeded);
  for (const auto& [error, count] : CheckExecutions("killed-server", counts)) {
    EXPECT_EQ(error, "GatewayTimeout") << count;
  }
  // The gateways come back, and nobody was called twice.
  const GatewaySums sums = EndGateways();
  EXPECT_LE(sums.calls, Devices());
  EXPECT_GE(sums.calls, counts.succeeded);
}

TEST_F(ServiceProcessTest, ADrainLosesNothing) {
  StartGateways(
      {"--devices-config", slow_, "--credit", absl::StrCat(devices_each / 4)});
  CreateJob("drained");
  AwaitMiddle("drained", 0.2);
  const Result drained = server_->End(SIGTERM);
  EXPECT_EQ(drained.exit_code, 0);
  EXPECT_THAT(drained.err, HasSubstr("\ndrained in "));
  server_->Restart();
  const JobCounts counts = Finish("drained");
  EXPECT_EQ(counts.status, "completed");
  EXPECT_EQ(counts.succeeded, Devices());
  CheckExecutions("drained", counts);
  const GatewaySums sums = EndGateways();
  EXPECT_EQ(sums.calls, Devices());
  EXPECT_EQ(sums.answers, Devices());
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
      std::cerr << "--gateways=N, --devices=N of each; got " << argv[i] << "\n";
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
