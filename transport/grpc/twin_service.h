// TwinService over an engine.
#ifndef TRANSPORT_GRPC_TWIN_SERVICE_H_
#define TRANSPORT_GRPC_TWIN_SERVICE_H_

#include "absl/status/status.h"
#include "google/protobuf/empty.pb.h"
#include "muster/v1/twin_service.grpc.pb.h"
#include "transport/grpc/service_context.h"
#include "transport/grpc/unary_call.h"

namespace muster {

class TwinService final : public v1::TwinService::CallbackService {
 public:
  explicit TwinService(const ServiceContext& context);

  grpc::ServerUnaryReactor* GetTwin(grpc::CallbackServerContext* context,
                                    const v1::GetTwinRequest* request,
                                    v1::Twin* response) override;
  grpc::ServerUnaryReactor* UpdateTwin(grpc::CallbackServerContext* context,
                                       const v1::UpdateTwinRequest* request,
                                       v1::Twin* response) override;
  grpc::ServerUnaryReactor* ReplaceTwin(grpc::CallbackServerContext* context,
                                        const v1::ReplaceTwinRequest* request,
                                        v1::Twin* response) override;
  grpc::ServerUnaryReactor* DeleteTwin(
      grpc::CallbackServerContext* context,
      const v1::DeleteTwinRequest* request,
      google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* QueryTwins(
      grpc::CallbackServerContext* context,
      const v1::QueryTwinsRequest* request,
      v1::QueryTwinsResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamTwinsResponse>* StreamTwins(
      grpc::CallbackServerContext* context,
      const v1::StreamTwinsRequest* request) override;
  grpc::ServerReadReactor<v1::ImportTwinsRequest>* ImportTwins(
      grpc::CallbackServerContext* context,
      v1::ImportTwinsResponse* response) override;

 private:
  absl::Status Get(absl::string_view device_id, v1::Twin* response) const;
  absl::Status Update(const v1::UpdateTwinRequest& request, v1::Twin* response);
  absl::Status UpdateByMask(absl::string_view device_id,
                            const v1::UpdateTwinRequest& request);
  absl::Status Replace(const v1::ReplaceTwinRequest& request,
                       v1::Twin* response);
  absl::Status Query(const grpc::CallbackServerContext& context,
                     const v1::QueryTwinsRequest& request,
                     v1::QueryTwinsResponse* response) const;

  const ServiceContext context_;
  Engine* const engine_;
  UnaryCalls calls_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_TWIN_SERVICE_H_
