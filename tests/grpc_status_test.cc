// Errors on the wire: every row of contract 4.6 with its code and its details,
// there and back.
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/query/parse_error.h"
#include "google/protobuf/any.pb.h"
#include "google/rpc/error_details.pb.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

struct Row {
  int number;
  const char* name;
  const char* reason;
  grpc::StatusCode code;
};

// Contract 4.6: number, name and the last column.  (400023 and 412003 are never
// emitted.)  404013 and 502000 are of section 3.4.
constexpr Row kRows[] = {
    {400000, "GenericBadRequest", "GENERIC_BAD_REQUEST",
     grpc::INVALID_ARGUMENT},
    {400001, "InvalidProtocolVersion", "INVALID_PROTOCOL_VERSION",
     grpc::INVALID_ARGUMENT},
    {400003, "InvalidOperation", "INVALID_OPERATION", grpc::INVALID_ARGUMENT},
    {400004, "ArgumentInvalid", "ARGUMENT_INVALID", grpc::INVALID_ARGUMENT},
    {400005, "ArgumentNull", "ARGUMENT_NULL", grpc::INVALID_ARGUMENT},
    {400006, "IotHubFormatError", "IOT_HUB_FORMAT_ERROR",
     grpc::INVALID_ARGUMENT},
    {400011, "DeviceDefinedMultipleTimes", "DEVICE_DEFINED_MULTIPLE_TIMES",
     grpc::INVALID_ARGUMENT},
    {400013, "BulkRegistryOperationFailure", "BULK_REGISTRY_OPERATION_FAILURE",
     grpc::INVALID_ARGUMENT},
    {400024, "RequestTimedOut", "REQUEST_TIMED_OUT", grpc::DEADLINE_EXCEEDED},
    {401002, "IotHubUnauthorizedAccess", "IOT_HUB_UNAUTHORIZED_ACCESS",
     grpc::PERMISSION_DENIED},
    {401003, "IotHubUnauthorized", "IOT_HUB_UNAUTHORIZED",
     grpc::UNAUTHENTICATED},
    {403002, "IotHubQuotaExceeded", "IOT_HUB_QUOTA_EXCEEDED",
     grpc::RESOURCE_EXHAUSTED},
    {403003, "JobQuotaExceeded", "JOB_QUOTA_EXCEEDED",
     grpc::RESOURCE_EXHAUSTED},
    {403010, "OperationNotAvailableInCurrentTier",
     "OPERATION_NOT_AVAILABLE_IN_CURRENT_TIER", grpc::FAILED_PRECONDITION},
    {403800, "DeviceMaximumInflightMethodExceeded",
     "DEVICE_MAXIMUM_INFLIGHT_METHOD_EXCEEDED", grpc::RESOURCE_EXHAUSTED},
    {404000, "GenericNotFound", "GENERIC_NOT_FOUND", grpc::NOT_FOUND},
    {404001, "DeviceNotFound", "DEVICE_NOT_FOUND", grpc::NOT_FOUND},
    {404002, "JobNotFound", "JOB_NOT_FOUND", grpc::NOT_FOUND},
    {404010, "ModuleNotFound", "MODULE_NOT_FOUND", grpc::NOT_FOUND},
    {404013, "FeatureNotSupported", "FEATURE_NOT_SUPPORTED",
     grpc::UNIMPLEMENTED},
    {404103, "DeviceNotOnline", "DEVICE_NOT_ONLINE", grpc::UNAVAILABLE},
    {405000, "GenericMethodNotAllowed", "GENERIC_METHOD_NOT_ALLOWED",
     grpc::UNIMPLEMENTED},
    {405102, "OperationNotAllowedInCurrentState",
     "OPERATION_NOT_ALLOWED_IN_CURRENT_STATE", grpc::FAILED_PRECONDITION},
    {409001, "DeviceAlreadyExists", "DEVICE_ALREADY_EXISTS",
     grpc::ALREADY_EXISTS},
    {409103, "DeviceJobAlreadyExists", "DEVICE_JOB_ALREADY_EXISTS",
     grpc::INTERNAL},
    {409104, "JobAlreadyExists", "JOB_ALREADY_EXISTS", grpc::ALREADY_EXISTS},
    {412001, "PreconditionFailed", "PRECONDITION_FAILED", grpc::ABORTED},
    {413001, "MessageTooLarge", "MESSAGE_TOO_LARGE", grpc::INVALID_ARGUMENT},
    {415000, "GenericUnsupportedMediaType", "GENERIC_UNSUPPORTED_MEDIA_TYPE",
     grpc::INVALID_ARGUMENT},
    {429001, "ThrottlingException", "THROTTLING_EXCEPTION",
     grpc::RESOURCE_EXHAUSTED},
    {429002, "ThrottleBacklogLimitExceeded", "THROTTLE_BACKLOG_LIMIT_EXCEEDED",
     grpc::RESOURCE_EXHAUSTED},
    {429003, "ThrottlingBacklogTimeout", "THROTTLING_BACKLOG_TIMEOUT",
     grpc::RESOURCE_EXHAUSTED},
    {429004, "ThrottlingMaxActiveJobCountExceeded",
     "THROTTLING_MAX_ACTIVE_JOB_COUNT_EXCEEDED", grpc::RESOURCE_EXHAUSTED},
    {429005, "DeviceThrottlingLimitExceeded",
     "DEVICE_THROTTLING_LIMIT_EXCEEDED", grpc::RESOURCE_EXHAUSTED},
    {499000, "ClientClosedRequest", "CLIENT_CLOSED_REQUEST", grpc::CANCELLED},
    {500001, "ServerError", "SERVER_ERROR", grpc::INTERNAL},
    {502000, "InvalidResponseWhileProxying", "INVALID_RESPONSE_WHILE_PROXYING",
     grpc::UNAVAILABLE},
    {503001, "ServiceUnavailable", "SERVICE_UNAVAILABLE", grpc::UNAVAILABLE},
    {504101, "GatewayTimeout", "GATEWAY_TIMEOUT", grpc::DEADLINE_EXCEEDED},
};

google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status rpc;
  EXPECT_TRUE(rpc.ParseFromString(status.error_details()));
  return rpc;
}

template <typename Detail>
std::optional<Detail> Find(const google::rpc::Status& rpc) {
  Detail detail;
  for (const google::protobuf::Any& any : rpc.details()) {
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

class GrpcStatusTest : public testing::TestWithParam<Row> {};

TEST_P(GrpcStatusTest, ThereAndBack) {
  const Row& row = GetParam();
  const auto code = static_cast<ErrorCode>(row.number);
  const absl::Status status = MakeError(code, "what happened");
  const grpc::Status wire = ToGrpcStatus(status);
  EXPECT_EQ(wire.error_code(), row.code);
  EXPECT_EQ(wire.error_message(), "what happened");
  const google::rpc::Status rpc = DetailsOf(wire);
  EXPECT_EQ(rpc.code(), row.code);
  EXPECT_EQ(rpc.message(), "what happened");
  const auto info = Find<google::rpc::ErrorInfo>(rpc);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), row.reason);
  EXPECT_EQ(info->domain(), "muster");
  EXPECT_EQ(info->metadata().at("name"), row.name);
  EXPECT_EQ(info->metadata().at("number"), absl::StrCat(row.number));
  EXPECT_EQ(info->metadata_size(), 2);
  EXPECT_FALSE(Find<google::rpc::BadRequest>(rpc).has_value());

  // A daily quota is not free again in a second.
  const bool retry = row.code == grpc::UNAVAILABLE ||
                     (row.code == grpc::RESOURCE_EXHAUSTED &&
                      code != ErrorCode::kIotHubQuotaExceeded);
  EXPECT_EQ(Find<google::rpc::RetryInfo>(rpc).has_value(), retry);

  const absl::Status back = FromGrpcStatus(wire);
  EXPECT_EQ(back.code(), status.code());
  EXPECT_EQ(back.message(), status.message());
  EXPECT_EQ(ErrorCodeOf(back), code);
  EXPECT_EQ(FieldOf(back), "");
  EXPECT_EQ(RetryDelayOf(back).has_value(), retry);
  // As a part of a message it is the same.
  EXPECT_EQ(FromRpcStatus(rpc), back);
  EXPECT_EQ(FromRpcStatus(ToRpcStatus(status)), back);
}

INSTANTIATE_TEST_SUITE_P(Contract46, GrpcStatusTest, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& info) {
                           return std::string(info.param.name);
                         });

// The table above has all of the engine's.
TEST(GrpcStatusTest, TheTableIsWhole) {
  int known = 0;
  for (uint32_t number = 1; number < 600'000; ++number) {
    if (IsErrorCode(number)) ++known;
  }
  EXPECT_EQ(known, std::size(kRows));
}

TEST(GrpcStatusTest, Ok) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  EXPECT_EQ(ToRpcStatus(absl::OkStatus()).code(), 0);
  EXPECT_TRUE(FromRpcStatus(google::rpc::Status()).ok());
  EXPECT_TRUE(AtField("name", absl::OkStatus()).ok());
  EXPECT_TRUE(WithRetryDelay(absl::OkStatus(), absl::Seconds(1)).ok());
}

// Errors without a number: their own code, and the nearest number.
TEST(GrpcStatusTest, WithoutANumber) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "as it is");
    const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
    EXPECT_EQ(back.code(), status.code());
    EXPECT_EQ(back.message(), "as it is");
    EXPECT_EQ(ErrorCodeOf(back), ErrorCodeOf(status)) << code;
  }
}

TEST(GrpcStatusTest, Fields) {
  const absl::Status status = FieldError("job.weight", "must be positive");
  EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kArgumentInvalid);
  EXPECT_EQ(status.message(), "job.weight: must be positive");
  const google::rpc::Status rpc = ToRpcStatus(status);
  const auto bad = Find<google::rpc::BadRequest>(rpc);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 1);
  EXPECT_EQ(bad->field_violations(0).field(), "job.weight");
  EXPECT_EQ(bad->field_violations(0).description(),
            "job.weight: must be positive");
  EXPECT_EQ(FieldOf(FromRpcStatus(rpc)), "job.weight");

  // Another error keeps what it is, and the first field that is named stays.
  const absl::Status large = AtField(
      "outer", AtField("inner", MakeError(ErrorCode::kMessageTooLarge, "big")));
  EXPECT_EQ(ErrorCodeOf(large), ErrorCode::kMessageTooLarge);
  EXPECT_EQ(FieldOf(large), "inner");
  EXPECT_EQ(FieldOf(FromGrpcStatus(ToGrpcStatus(large))), "inner");
}

TEST(GrpcStatusTest, RetryDelays) {
  const absl::Status status =
      WithRetryDelay(MakeError(ErrorCode::kThrottlingException, "busy"),
                     absl::Seconds(2) + absl::Milliseconds(250));
  EXPECT_EQ(RetryDelayOf(FromGrpcStatus(ToGrpcStatus(status))),
            absl::Milliseconds(2250));
  // A connection that broke off has no details, and may be back soon.
  EXPECT_EQ(
      RetryDelayOf(FromGrpcStatus(grpc::Status(grpc::UNAVAILABLE, "gone"))),
      kRetryDelayDefault);
  // A message that is too large is so again.
  EXPECT_EQ(RetryDelayOf(FromGrpcStatus(
                grpc::Status(grpc::RESOURCE_EXHAUSTED, "message too large"))),
            std::nullopt);
}

TEST(GrpcStatusTest, PositionsInQueries) {
  const absl::Status status = AtField(
      "query", PrefixError("query: ", MakeParseError({2, 7}, "found ')'")));
  const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
  EXPECT_EQ(back.message(), "query: 2:7: found ')'");
  EXPECT_EQ(FieldOf(back), "query");
  const std::optional<ParseError> error = ParseErrorOf(back);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->position.line, 2);
  EXPECT_EQ(error->position.column, 7);
  EXPECT_EQ(error->what, "found ')'");
}

// What a caller sent may stand in a message: of any bytes and length.
TEST(GrpcStatusTest, AnyMessageTravels) {
  const std::string messages[] = {
      "\xff\xfe",
      std::string(100'000, 'x'),
      "a\xc3",
      std::string(3'000, '\xc3'),
      std::string(1, '\0'),
      absl::StrCat(std::string(1'023, 'y'), "\xc3\xa4")};
  for (const std::string& message : messages) {
    const absl::Status status =
        AtField(message, MakeError(ErrorCode::kArgumentInvalid, message));
    const grpc::Status wire = ToGrpcStatus(status);
    EXPECT_LT(wire.error_message().size() + wire.error_details().size(), 4096);
    const absl::Status back = FromGrpcStatus(wire);
    EXPECT_EQ(ErrorCodeOf(back), ErrorCode::kArgumentInvalid);
    EXPECT_NE(FieldOf(back), "");
  }
}

// Trailing metadata has 8 KiB, of which others need some.
TEST(GrpcStatusTest, TheLongestError) {
  std::string text;
  while (text.size() < 10'000) absl::StrAppend(&text, "\u00e9");
  const grpc::Status wire = ToGrpcStatus(
      AtField(text, MakeParseError({.line = 1, .column = 1}, text)));
  // Percent-encoded, and in base64.
  const size_t size = 3 * wire.error_message().size() +
                      4 * (wire.error_details().size() + 2) / 3;
  EXPECT_GT(size, size_t{3} << 10);
  EXPECT_LT(size, size_t{6} << 10);
}

// Details of another server, or damaged ones.
TEST(GrpcStatusTest, ForeignDetails) {
  EXPECT_EQ(FromGrpcStatus(grpc::Status(grpc::NOT_FOUND, "m", "\xff\xff")),
            absl::NotFoundError("m"));
  google::rpc::Status rpc;
  rpc.set_code(grpc::NOT_FOUND);
  google::rpc::ErrorInfo info;
  info.set_domain("elsewhere");
  (*info.mutable_metadata())["number"] = "404002";
  rpc.add_details()->PackFrom(info);
  EXPECT_EQ(ErrorCodeOf(FromRpcStatus(rpc)), ErrorCode::kGenericNotFound);
  info.set_domain("muster");
  for (const char* number : {"", "0", "-1", "404999", "99999999999", "x"}) {
    (*info.mutable_metadata())["number"] = number;
    rpc.mutable_details(0)->PackFrom(info);
    EXPECT_EQ(ErrorCodeOf(FromRpcStatus(rpc)), ErrorCode::kGenericNotFound)
        << number;
  }
  rpc.set_code(99);
  EXPECT_TRUE(absl::IsUnknown(FromRpcStatus(rpc)));
  rpc.set_code(-1);
  EXPECT_TRUE(absl::IsUnknown(FromRpcStatus(rpc)));
}

}  // namespace
}  // namespace muster
