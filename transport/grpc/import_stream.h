// ImportTwins' streams: one message at a time is read and stored; the next one
// is read when its twins are durable.  That, and HTTP/2's flow control behind
// it, is the backpressure.
#ifndef TRANSPORT_GRPC_IMPORT_STREAM_H_
#define TRANSPORT_GRPC_IMPORT_STREAM_H_

#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "muster/v1/twin_service.pb.h"
#include "transport/grpc/service_context.h"

namespace muster {

// A reactor that frees itself.
grpc::ServerReadReactor<v1::ImportTwinsRequest>* NewImportStream(
    const ServiceContext& streams, grpc::CallbackServerContext* context,
    v1::ImportTwinsResponse* response);

}  // namespace muster

#endif  // TRANSPORT_GRPC_IMPORT_STREAM_H_
