// A generic client: it knows gRPC's reflection and nothing of Muster, learns
// the services and messages from the server, and runs a job.
//
// In a process of its own, since whoever links the server has its descriptors.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/notification.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/descriptor_database.h"
#include "google/protobuf/dynamic_message.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/json_util.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FileDescriptorProto;
using google::protobuf::Message;
using grpc::reflection::v1alpha::ServerReflection;
using grpc::reflection::v1alpha::ServerReflectionRequest;
using grpc::reflection::v1alpha::ServerReflectionResponse;

// Descriptors, asked for as they are needed.
class ReflectionDatabase : public google::protobuf::DescriptorDatabase {
 public:
  explicit ReflectionDatabase(std::shared_ptr<grpc::Channel> channel)
      : stub_(ServerReflection::NewStub(channel)),
        stream_(stub_->ServerReflectionInfo(&context_)) {}
  ~ReflectionDatabase() override {
    stream_->WritesDone();
    ServerReflectionResponse rest;
    while (stream_->Read(&rest)) {
    }
    EXPECT_TRUE(stream_->Finish().ok());
  }

  bool FindFileByName(const std::string& filename,
                      FileDescriptorProto* out) override {
    ServerReflectionRequest request;
    request.set_file_by_filename(filename);
    return Ask(request) && cache_.FindFileByName(filename, out);
  }
  bool FindFileContainingSymbol(const std::string& symbol,
                                FileDescriptorProto* out) override {
    ServerReflectionRequest request;
    request.set_file_containing_symbol(symbol);
    return Ask(request) && cache_.FindFileContainingSymbol(symbol, out);
  }
  bool FindFileContainingExtension(const std::string&, int,
                                   FileDescriptorProto*) override {
    return false;
  }

  std::set<std::string> Services() {
    ServerReflectionRequest request;
    request.set_list_services("*");
    ServerReflectionResponse response;
    std::set<std::string> names;
    if (!stream_->Write(request) || !stream_->Read(&response)) return names;
    for (const auto& service : response.list_services_response().service()) {
      names.insert(service.name());
    }
    return names;
  }

 private:
  bool Ask(const ServerReflectionRequest& request) {
    ServerReflectionResponse response;
    if (!stream_->Write(request) || !stream_->Read(&response)) return false;
    for (const std::string& bytes :
         response.file_descriptor_response().file_descriptor_proto()) {
      FileDescriptorProto file;
      if (!file.ParseFromString(bytes)) return false;
      if (known_.insert(file.name()).second) cache_.Add(file);
    }
    return response.has_file_descriptor_response();
  }

  grpc::ClientContext context_;
  std::unique_ptr<ServerReflection::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<ServerReflectionRequest,
                                           ServerReflectionResponse>>
      stream_;
  std::set<std::string> known_;
  google::protobuf::SimpleDescriptorDatabase cache_;
};

class GrpcReflectionTest : public testing::Test {
 protected:
  void SetUp() override {
    int in[2], out[2];
    ASSERT_EQ(pipe(in), 0);
    ASSERT_EQ(pipe(out), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
      execl("tests/grpc_test_server", "grpc_test_server", nullptr);
      _exit(99);
    }
    close(in[0]);
    close(out[1]);
    input_ = in[1];
    std::string line;
    char byte;
    while (read(out[0], &byte, 1) == 1 && byte != '\n') line.push_back(byte);
    close(out[0]);
    ASSERT_FALSE(line.empty());
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", line),
                                   grpc::InsecureChannelCredentials());
    database_ = std::make_unique<ReflectionDatabase>(channel_);
    pool_ = std::make_unique<google::protobuf::DescriptorPool>(database_.get());
  }
  void TearDown() override {
    database_.reset();
    channel_.reset();
    close(input_);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }

  // A message in the text form that `text` has.
  std::unique_ptr<Message> Make(const Descriptor* type,
                                const std::string& text) {
    std::unique_ptr<Message> message(factory_.GetPrototype(type)->New());
    EXPECT_TRUE(
        google::protobuf::TextFormat::ParseFromString(text, message.get()))
        << text;
    return message;
  }

  // Calls "muster.v1.JobService/GetJob" with a request in text form; the answer
  // in text form, or "" and `*status`.
  std::string Call(const std::string& method, const std::string& request,
                   grpc::Status* status) {
    const google::protobuf::MethodDescriptor* descriptor =
        pool_->FindMethodByName(absl::StrReplaceAll(method, {{"/", "."}}));
    EXPECT_NE(descriptor, nullptr) << method;
    if (descriptor == nullptr) return "";
    const std::string bytes =
        Make(descriptor->input_type(), request)->SerializeAsString();
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer in(&slice, 1);
    grpc::ByteBuffer out;
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    absl::Notification done;
    stub.UnaryCall(&context, absl::StrCat("/", method), {}, &in, &out,
                   [&](grpc::Status s) {
                     *status = s;
                     done.Notify();
                   });
    done.WaitForNotification();
    if (!status->ok()) return "";
    std::unique_ptr<Message> response(
        factory_.GetPrototype(descriptor->output_type())->New());
    grpc::Slice flat;
    EXPECT_TRUE(out.DumpToSingleSlice(&flat).ok());
    EXPECT_TRUE(response->ParseFromArray(flat.begin(), flat.size()));
    return response->ShortDebugString();
  }

  pid_t pid_ = -1;
  int input_ = -1;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<ReflectionDatabase> database_;
  std::unique_ptr<google::protobuf::DescriptorPool> pool_;
  google::protobuf::DynamicMessageFactory factory_;
};

TEST_F(GrpcReflectionTest, AGenericClientRunsAJob) {
  EXPECT_EQ(
      database_->Services(),
      (std::set<std::string>{"grpc.health.v1.Health",
                             "grpc.reflection.v1alpha.ServerReflection",
                             "muster.v1.JobService", "muster.v1.TwinService"}));
  const google::protobuf::ServiceDescriptor* jobs =
      pool_->FindServiceByName("muster.v1.JobService");
  ASSERT_NE(jobs, nullptr);
  EXPECT_EQ(jobs->method_count(), 8);

  grpc::Status status;
  std::string answer = Call("muster.v1.JobService/CreateJob",
                            R"(job_id: "reboot"
              job { query_condition: "tags.floor = 3"
                    direct_method { method_name: "reboot" } })",
                            &status);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_NE(answer.find("name: \"jobs/reboot\""), std::string::npos) << answer;
  // Until it has ended: a generic client of unary calls has to ask again.
  do {
    answer =
        Call("muster.v1.JobService/GetJob", R"(name: "jobs/reboot")", &status);
    ASSERT_TRUE(status.ok()) << status.error_message();
  } while (answer.find("STATE_COMPLETED") == std::string::npos);
  EXPECT_NE(answer.find("device_count: 3 succeeded_count: 3"),
            std::string::npos)
      << answer;
  answer =
      Call("muster.v1.TwinService/QueryTwins",
           R"(query: "SELECT deviceId FROM devices" page_size: 1)", &status);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_NE(answer.find(R"({\"deviceId\":\"d0\"})"), std::string::npos)
      << answer;
  answer = Call("grpc.health.v1.Health/Check", "", &status);
  EXPECT_EQ(answer, "status: SERVING");
}

// Errors explain themselves to it as well.
TEST_F(GrpcReflectionTest, AGenericClientReadsErrors) {
  grpc::Status status;
  Call("muster.v1.JobService/GetJob", R"(name: "jobs/none")", &status);
  EXPECT_EQ(status.error_code(), grpc::NOT_FOUND);
  const Descriptor* rpc_status =
      pool_->FindMessageTypeByName("google.rpc.Status");
  ASSERT_NE(rpc_status, nullptr);
  ASSERT_NE(pool_->FindMessageTypeByName("google.rpc.ErrorInfo"), nullptr);
  std::unique_ptr<Message> details(factory_.GetPrototype(rpc_status)->New());
  ASSERT_TRUE(details->ParseFromString(status.error_details()));
  google::protobuf::TextFormat::Printer printer;
  printer.SetExpandAny(true);
  std::string text;
  ASSERT_TRUE(printer.PrintToString(*details, &text));
  EXPECT_NE(text.find("reason: \"JOB_NOT_FOUND\""), std::string::npos) << text;
  EXPECT_NE(text.find("value: \"404002\""), std::string::npos) << text;
}

// Reflection's streams take threads: their number is limited.
TEST_F(GrpcReflectionTest, ManyReflectionStreams) {
  const auto stub = ServerReflection::NewStub(channel_);
  constexpr int kStreams = 40;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReaderWriter<
      ServerReflectionRequest, ServerReflectionResponse>>>
      streams;
  int refused = 0;
  for (int i = 0; i < kStreams; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(stub->ServerReflectionInfo(contexts.back().get()));
    ServerReflectionRequest request;
    request.set_list_services("*");
    ServerReflectionResponse response;
    streams.back()->Write(request);
    if (streams.back()->Read(&response)) continue;
    EXPECT_EQ(streams.back()->Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
    streams.back().reset();
    ++refused;
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, kStreams);
  // The others do not notice.
  grpc::Status status;
  Call("muster.v1.JobService/ListJobs", "", &status);
  EXPECT_TRUE(status.ok()) << status.error_message();
  for (auto& stream : streams) {
    if (stream == nullptr) continue;
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
}

}  // namespace
}  // namespace muster
