#include "transport/grpc/early_check.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "grpcpp/security/auth_metadata_processor.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

class EarlyCheck final : public grpc::AuthMetadataProcessor {
 public:
  explicit EarlyCheck(const CallGuard* guard) : guard_(guard) {}

  // It takes some microseconds.
  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata,
                       grpc::AuthContext* context, OutputMetadata* consumed,
                       OutputMetadata* response) override {
    const auto path = metadata.find(":path");
    if (path != metadata.end() &&
        absl::StartsWith(
            absl::string_view(path->second.data(), path->second.size()),
            "/grpc.")) {
      return grpc::Status::OK;
    }
    return ToGrpcStatus(guard_->Authenticate(metadata, *context).status());
  }

 private:
  const CallGuard* const guard_;
};

}  // namespace

std::shared_ptr<grpc::AuthMetadataProcessor> MakeEarlyCheck(
    const CallGuard* guard) {
  return std::make_shared<EarlyCheck>(guard);
}

}  // namespace muster
