#include "transport/grpc/gateway/gateway_transport.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "transport/grpc/gateway/session.h"
#include "transport/grpc/gateway/session_table.h"

namespace muster {
namespace {

absl::Status CheckRange(absl::string_view name, int value, int max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return MakeError(
      ErrorCode::kArgumentInvalid,
      absl::StrCat(name, " must be in [1, ", max, "]; got ", value));
}

}  // namespace

absl::StatusOr<std::unique_ptr<GatewayTransport>> GatewayTransport::Create(
    const GatewayTransportOptions& options) {
  MUSTER_CHECK(options.clock != nullptr && options.executor != nullptr);
  if (absl::Status s = CheckRange("sessions_max", options.sessions_max, 65'535);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckRange("devices_per_session_max",
                                  options.devices_per_session_max, 1 << 24);
      !s.ok()) {
    return s;
  }
  if (absl::Status s =
          CheckRange("in_flight_max", options.in_flight_max, 1 << 24);
      !s.ok()) {
    return s;
  }
  return std::unique_ptr<GatewayTransport>(
      new GatewayTransport(std::make_shared<SessionTable>(options)));
}

GatewayTransport::GatewayTransport(std::shared_ptr<SessionTable> table)
    : table_(std::move(table)) {}

GatewayTransport::~GatewayTransport() { table_->Shutdown(); }

void GatewayTransport::Start(TransportSink* sink) { table_->Start(sink); }

bool GatewayTransport::draining() const { return table_->draining(); }

size_t GatewayTransport::Send(const MethodBatch& batch) {
  return table_->Send(batch);
}

void GatewayTransport::NotifyDesired(
    absl::Span<const DesiredNotification> notifications) {
  table_->NotifyDesired(notifications);
}

void GatewayTransport::Disconnect(absl::Span<const uint64_t> links) {
  table_->Drop(links, v1::AttachResponse::Dropped::REASON_TWIN_DELETED);
}

void GatewayTransport::Shutdown() { table_->Shutdown(); }

void GatewayTransport::BeginDrain() { table_->BeginDrain(); }

bool GatewayTransport::AwaitDrained(absl::Duration limit) {
  return table_->AwaitDrained(limit);
}

std::vector<AttachedGateway> GatewayTransport::gateways() const {
  return table_->gateways();
}

GatewayTotals GatewayTransport::totals() const { return table_->totals(); }

absl::StatusOr<std::shared_ptr<GatewaySession>> GatewayTransport::Open(
    GatewayStream* stream, GatewayAdmission admission) {
  return table_->Open(stream, std::move(admission));
}

}  // namespace muster
