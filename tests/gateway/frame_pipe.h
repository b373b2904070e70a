// FramePipe: a gateway's end of a stream, frame by frame and by hand, so that
// tests can say what no library would.
#ifndef TESTS_GATEWAY_FRAME_PIPE_H_
#define TESTS_GATEWAY_FRAME_PIPE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "muster/v1/gateway_service.grpc.pb.h"

namespace muster {

// Thread-safe.
class FramePipe {
 public:
  virtual ~FramePipe() = default;

  // False: the stream has ended.  May wait until the engine reads.
  virtual bool Write(const v1::AttachRequest& frame) = 0;
  // One thread.  False: the stream has ended.
  virtual bool Read(v1::AttachResponse* frame) = 0;
  // Says that nothing more will be written.
  virtual void CloseWriting() = 0;
  // Ends the stream at once.
  virtual void Kill() = 0;
  // How it ended, once Read() has returned false.
  virtual grpc::Status Finish() = 0;
};

// A gateway that dials.
class DialledPipe : public FramePipe {
 public:
  explicit DialledPipe(std::shared_ptr<grpc::Channel> channel,
                       const std::string& authorization = "")
      : channel_(std::move(channel)),
        stub_(v1::GatewayService::NewStub(channel_)) {
    if (!authorization.empty()) {
      context_.AddMetadata("authorization", authorization);
    }
    context_.set_wait_for_ready(true);
    stream_ = stub_->Attach(&context_);
  }

  bool Write(const v1::AttachRequest& frame) override {
    absl::MutexLock lock(&mutex_);
    return stream_->Write(frame);
  }
  bool Read(v1::AttachResponse* frame) override { return stream_->Read(frame); }
  void CloseWriting() override {
    absl::MutexLock lock(&mutex_);
    stream_->WritesDone();
  }
  void Kill() override { context_.TryCancel(); }
  grpc::Status Finish() override { return stream_->Finish(); }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::GatewayService::Stub> stub_;
  grpc::ClientContext context_;
  absl::Mutex mutex_;  // For writing.
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>>
      stream_;
};

// Gateways that listen: each call of the engine becomes a pipe.
class PipeListener {
 public:
  // Called on a thread of gRPC's; the stream ends when it returns.
  using OnPipe = std::function<void(std::shared_ptr<FramePipe>)>;

  explicit PipeListener(OnPipe on_pipe) : service_(std::move(on_pipe)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~PipeListener() { server_->Shutdown(std::chrono::system_clock::now()); }

  int port() const { return port_; }

 private:
  using Stream =
      grpc::ServerReaderWriter<v1::AttachRequest, v1::AttachResponse>;

  class Pipe : public FramePipe {
   public:
    Pipe(grpc::ServerContext* context, Stream* stream)
        : context_(context), stream_(stream) {}

    bool Write(const v1::AttachRequest& frame) override {
      absl::MutexLock lock(&mutex_);
      return !over_ && stream_->Write(frame);
    }
    bool Read(v1::AttachResponse* frame) override {
      return stream_->Read(frame);
    }
    void CloseWriting() override { Kill(); }
    void Kill() override {
      absl::MutexLock lock(&mutex_);
      if (!over_) context_->TryCancel();
    }
    grpc::Status Finish() override { return grpc::Status::OK; }
    void End() {
      absl::MutexLock lock(&mutex_);
      over_ = true;
    }

   private:
    grpc::ServerContext* const context_;
    Stream* const stream_;
    absl::Mutex mutex_;
    bool over_ ABSL_GUARDED_BY(mutex_) = false;
  };

  class Service : public v1::GatewayListenerService::Service {
   public:
    explicit Service(OnPipe on_pipe) : on_pipe_(std::move(on_pipe)) {}
    grpc::Status Serve(grpc::ServerContext* context, Stream* stream) override {
      auto pipe = std::make_shared<Pipe>(context, stream);
      on_pipe_(pipe);
      pipe->End();
      return grpc::Status::OK;
    }

   private:
    const OnPipe on_pipe_;
  };

  Service service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace muster

#endif  // TESTS_GATEWAY_FRAME_PIPE_H_
