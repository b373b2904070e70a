// A whole service in the process of a test: engine, simulated devices, a gRPC
// server on a real socket and a client.
#ifndef TESTS_GRPC_FIXTURE_H_
#define TESTS_GRPC_FIXTURE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "muster/v1/job_service.grpc.pb.h"
#include "muster/v1/twin_service.grpc.pb.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/client.h"
#include "transport/grpc/server.h"
#include "transport/loopback/loopback.h"

namespace muster {

class GrpcHub {
 public:
  explicit GrpcHub(GrpcServerOptions server = {}, CallGuard::Options guard = {},
                   EngineOptions engine = {})
      : server_options_(std::move(server)), guard_(guard) {
    executor_ = MakeThreadExecutor(2);
    LoopbackOptions devices;
    devices.answer_unknown = false;
    auto transport =
        LoopbackTransport::Create(devices, &Clock::Real(), executor_.get());
    MUSTER_CHECK(transport.ok());
    transport_ = *std::move(transport);
    engine.transport = transport_.get();
    auto created = Engine::Create(engine);
    MUSTER_CHECK(created.ok());
    engine_ = *std::move(created);
    if (server_options_.listen.empty()) {
      server_options_.listen = {"127.0.0.1:0"};
    }
    StartServer();
    client_ = NewClient();
  }
  ~GrpcHub() {
    client_.reset();
    server_.reset();
    engine_->Stop();
  }

  Engine& engine() { return *engine_; }
  LoopbackTransport& devices() { return *transport_; }
  GrpcServer& server() { return *server_; }
  MusterClient& client() { return *client_; }
  CallGuard& guard() { return guard_; }

  std::string address() const {
    return absl::StrCat("127.0.0.1:", server_->ports()[0]);
  }

  // The same port again, after StopServer().
  void StartServer() {
    server_options_.engine = engine_.get();
    server_options_.guard = &guard_;
    auto started = GrpcServer::Start(server_options_);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    server_options_.listen = {address()};
  }
  void StopServer() { server_.reset(); }

  std::unique_ptr<MusterClient> NewClient() const {
    ConnectOptions options;
    options.address = address();
    auto client = MusterClient::Connect(options);
    MUSTER_CHECK(client.ok());
    return *std::move(client);
  }

  // For what MusterClient would not send.
  std::unique_ptr<v1::JobService::Stub> Jobs() const {
    return v1::JobService::NewStub(Channel());
  }
  std::unique_ptr<v1::TwinService::Stub> Twins() const {
    return v1::TwinService::NewStub(Channel());
  }
  std::shared_ptr<grpc::Channel> Channel() const {
    return grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  }

  // A twin, and with it a device.
  void AddDevice(absl::string_view id, absl::string_view members = "") {
    const absl::Status status = engine_->UpsertTwin(
        absl::StrCat(R"({"deviceId":")", id, "\"", members.empty() ? "" : ",",
                     members, "}"));
    ASSERT_TRUE(status.ok()) << status;
    transport_->AddDevices({id}, true);
  }

 private:
  GrpcServerOptions server_options_;
  CallGuard guard_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<LoopbackTransport> transport_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<MusterClient> client_;
};

// A request for a job that calls a method on all devices that meet `condition`.
inline v1::CreateJobRequest MethodJob(absl::string_view job_id,
                                      absl::string_view method,
                                      absl::string_view condition = "*") {
  v1::CreateJobRequest request;
  request.set_job_id(std::string(job_id));
  request.mutable_job()->set_query_condition(std::string(condition));
  request.mutable_job()->mutable_direct_method()->set_method_name(
      std::string(method));
  return request;
}

// A request for a job that merges `patch`, JSON text, into the twins of all
// devices that meet `condition`.
inline v1::CreateJobRequest TwinJob(absl::string_view job_id,
                                    absl::string_view patch,
                                    absl::string_view condition = "*") {
  v1::CreateJobRequest request;
  request.set_job_id(std::string(job_id));
  request.mutable_job()->set_query_condition(std::string(condition));
  request.mutable_job()->mutable_twin_update()->set_merge_patch(
      std::string(patch));
  return request;
}

}  // namespace muster

#endif  // TESTS_GRPC_FIXTURE_H_
