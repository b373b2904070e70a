// examples/gateway.cc as a process of its own, against an engine: it is as
// short as it says, and does what it says.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gmock/gmock.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

TEST(GatewayExampleTest, HasFiftyLines) {
  std::ifstream file("examples/gateway.cc");
  ASSERT_TRUE(file.is_open());
  EXPECT_LE(std::count(std::istreambuf_iterator<char>(file), {}, '\n'), 50);
}

TEST(GatewayExampleTest, AnswersAJob) {
  const auto executor = MakeThreadExecutor(2);
  const auto gateways = *GatewayTransport::Create(
      {.clock = &Clock::Real(), .executor = executor.get()});
  const auto engine = *Engine::Create(
      {.transport = gateways.get(), .executor = executor.get()});
  for (const char* twin :
       {R"({"deviceId":"thermo-041"})", R"({"deviceId":"thermo-042"})"}) {
    ASSERT_TRUE(engine->UpsertTwin(twin).ok());
  }
  CallGuard guard(CallGuard::Options{});
  const auto service = MakeGatewayService(gateways.get(), &guard);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(service.get());
  const auto server = builder.BuildAndStart();

  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  const std::string address = absl::StrCat("127.0.0.1:", port);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(out[1], STDOUT_FILENO);
    execl("examples/gateway", "gateway", address.c_str(), "thermo-041",
          "thermo-042", "nobody", nullptr);
    _exit(99);
  }
  close(out[1]);

  // It waits for its devices, however long they take to attach.
  JobRequest job;
  job.job_id = "lock";
  job.query_condition = "*";
  job.action =
      MethodAction{.method_name = "lockDoor", .connect_timeout_seconds = 60};
  ASSERT_TRUE(engine->CreateJob(job).ok());
  const auto done = engine->WaitJob("lock");
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(*done->statistics, (JobStatistics{2, 0, 2, 0, 0}));

  EXPECT_EQ(kill(pid, SIGTERM), 0);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status));
  std::string text(1 << 16, '\0');
  size_t size = 0;
  while (true) {
    const ssize_t more = read(out[0], &text[size], text.size() - size);
    if (more <= 0) break;
    size += static_cast<size_t>(more);
  }
  close(out[0]);
  text.resize(size);
  EXPECT_THAT(text, HasSubstr("thermo-041: lockDoor\n"));
  EXPECT_THAT(text, HasSubstr("thermo-042: lockDoor\n"));
  EXPECT_THAT(text, HasSubstr("nobody: NOT_FOUND"));
  engine->Stop();
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace
}  // namespace muster
