// StreamTwins' streams: a page is read, sent in messages of about a megabyte,
// and only then the next one is read.  So a stream costs a page, and a slow
// reader holds up nobody.
#ifndef TRANSPORT_GRPC_ROW_STREAM_H_
#define TRANSPORT_GRPC_ROW_STREAM_H_

#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "muster/v1/twin_service.pb.h"
#include "transport/grpc/service_context.h"

namespace muster {

// A reactor that frees itself.
grpc::ServerWriteReactor<v1::StreamTwinsResponse>* NewRowStream(
    const ServiceContext& streams, grpc::CallbackServerContext* context,
    const v1::StreamTwinsRequest* request);

}  // namespace muster

#endif  // TRANSPORT_GRPC_ROW_STREAM_H_
