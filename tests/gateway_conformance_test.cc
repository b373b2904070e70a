// GatewayTransport keeps the promises of the Transport port over real sockets:
// with a gateway that dials, with one that listens, and with both made with the
// gateway library.
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "tests/gateway/frame_pipe.h"
#include "tests/gateway/gateway_harness.h"
#include "tests/gateway/simple_gateway.h"
#include "tests/transport_conformance.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/outbound.h"

namespace muster {
namespace {

// The service at a port.
class AttachServer {
 public:
  explicit AttachServer(GatewayTransport* transport)
      : guard_(CallGuard::Options()),
        service_(MakeGatewayService(transport, &guard_)) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  // REQUIRES: the streams have ended, or will.
  ~AttachServer() { server_->Shutdown(); }

  const std::string& address() const { return address_; }

 private:
  CallGuard guard_;
  const std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

std::unique_ptr<OutboundGateways> DialOut(int port, Executor* executor,
                                          GatewayTransport* transport) {
  auto outbound = OutboundGateways::Start(
      {.gateways = {{.connect = {.address = absl::StrCat("127.0.0.1:", port)}}},
       .clock = &Clock::Real(),
       .executor = executor},
      transport);
  MUSTER_CHECK(outbound.ok());
  return *std::move(outbound);
}

class DialledHarness : public SimpleGatewayHarness {
 public:
  DialledHarness() : server_(transport_.get()) {
    gateway_.Start(std::make_shared<DialledPipe>(grpc::CreateChannel(
        server_.address(), grpc::InsecureChannelCredentials())));
  }
  ~DialledHarness() override {
    transport_->Shutdown();
    gateway_.Stop();
  }

 private:
  AttachServer server_;
};

class ListeningHarness : public SimpleGatewayHarness {
 public:
  ListeningHarness()
      : listener_([this](std::shared_ptr<FramePipe> pipe) {
          gateway_.Serve(std::move(pipe));
        }),
        outbound_(
            DialOut(listener_.port(), executor_.get(), transport_.get())) {}
  ~ListeningHarness() override {
    outbound_->Stop();
    gateway_.Stop();
  }

 private:
  PipeListener listener_;
  std::unique_ptr<OutboundGateways> outbound_;
};

// The gateway library at the far end.
class LibraryHarness : public GatewayHarness, private GatewayHandler {
 public:
  void AddDevice(absl::string_view id, bool connected) override {
    SetConnected(id, connected);
  }
  void SetConnected(absl::string_view id, bool connected) override {
    absl::MutexLock lock(&mutex_);
    const auto [it, added] = tokens_.emplace(std::string(id), ids_.size());
    if (added) ids_.emplace_back(id);
    const uint32_t token = it->second;
    if (!connected) {
      gateway_->RemoveDevices({token});
      connected_.erase(token);
    } else if (connected_.insert(token).second) {
      const absl::Status status = gateway_->AddDevices({{token, id}});
      MUSTER_CHECK(status.ok());
    }
  }
  std::vector<DeviceCall> calls() override {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  std::vector<DeviceNotification> notifications() override {
    absl::MutexLock lock(&mutex_);
    return notifications_;
  }

 protected:
  GatewayHandler* handler() { return this; }

  std::unique_ptr<Gateway> gateway_;

 private:
  void OnMethods(const GatewayMethods& calls) override {
    for (size_t i = 0; i < calls.devices.size(); ++i) {
      std::string id;
      {
        absl::MutexLock lock(&mutex_);
        id = ids_[calls.devices[i]];
        calls_.push_back({.device_id = id,
                          .method = std::string(calls.method_name),
                          .payload = std::string(calls.payload)});
      }
      if (calls.method_name == "never") continue;
      const std::string payload = EchoOf(id, calls.payload);
      const absl::Status status =
          gateway_->Answer(calls.range, static_cast<uint32_t>(i),
                           {.status = 200, .payload = payload});
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  void OnDesired(const GatewayDesired& update) override {
    absl::MutexLock lock(&mutex_);
    for (size_t i = 0; i < update.devices.size(); ++i) {
      notifications_.push_back({.device_id = ids_[update.devices[i]],
                                .patch = std::string(update.patch),
                                .version = update.versions[i]});
    }
  }

  absl::Mutex mutex_;
  std::map<std::string, uint32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> ids_ ABSL_GUARDED_BY(mutex_);
  std::set<uint32_t> connected_ ABSL_GUARDED_BY(mutex_);
  std::vector<DeviceCall> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<DeviceNotification> notifications_ ABSL_GUARDED_BY(mutex_);
};

class DialledLibraryHarness : public LibraryHarness {
 public:
  DialledLibraryHarness() : server_(transport_.get()) {
    gateway_ = *Gateway::Connect({.address = server_.address()},
                                 {.name = "library"}, handler());
  }
  ~DialledLibraryHarness() override {
    transport_->Shutdown();
    gateway_->Stop();
  }

 private:
  AttachServer server_;
};

class ListeningLibraryHarness : public LibraryHarness {
 public:
  ListeningLibraryHarness() {
    gateway_ = *Gateway::Listen({.address = "127.0.0.1:0"}, {.name = "library"},
                                handler());
    outbound_ = DialOut(gateway_->port(), executor_.get(), transport_.get());
  }
  ~ListeningLibraryHarness() override {
    outbound_->Stop();
    gateway_->Stop();
  }

 private:
  std::unique_ptr<OutboundGateways> outbound_;
};

template <typename Harness>
std::unique_ptr<TransportHarness> MakeHarness() {
  return std::make_unique<Harness>();
}

const TransportHarnessParam kHarnesses[] = {
    {"Dialled", MakeHarness<DialledHarness>},
    {"Listening", MakeHarness<ListeningHarness>},
    {"DialledLibrary", MakeHarness<DialledLibraryHarness>},
    {"ListeningLibrary", MakeHarness<ListeningLibraryHarness>},
};

INSTANTIATE_TEST_SUITE_P(Gateway, TransportConformanceTest,
                         testing::ValuesIn(kHarnesses), TransportHarnessName);
INSTANTIATE_TEST_SUITE_P(Gateway, TransportThreadsTest,
                         testing::ValuesIn(kHarnesses), TransportHarnessName);

}  // namespace
}  // namespace muster
