// The table of errors is the contract's (4.6), and errors keep their numbers.
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

struct Row {
  int number;
  absl::string_view name;
  int http_status;
  absl::StatusCode canonical;
};

// Contract 4.6 as it stands, but for 400023 and 412003, which are not emitted.
// 502 comes from 3.4; its last digits are not public.
constexpr Row kRows[] = {
    {400000, "GenericBadRequest", 400, absl::StatusCode::kInvalidArgument},
    {400001, "InvalidProtocolVersion", 400, absl::StatusCode::kInvalidArgument},
    {400003, "InvalidOperation", 400, absl::StatusCode::kInvalidArgument},
    {400004, "ArgumentInvalid", 400, absl::StatusCode::kInvalidArgument},
    {400005, "ArgumentNull", 400, absl::StatusCode::kInvalidArgument},
    {400006, "IotHubFormatError", 400, absl::StatusCode::kInvalidArgument},
    {400011, "DeviceDefinedMultipleTimes", 400,
     absl::StatusCode::kInvalidArgument},
    {400013, "BulkRegistryOperationFailure", 400,
     absl::StatusCode::kInvalidArgument},
    {400024, "RequestTimedOut", 400, absl::StatusCode::kDeadlineExceeded},
    {401002, "IotHubUnauthorizedAccess", 401,
     absl::StatusCode::kPermissionDenied},
    {401003, "IotHubUnauthorized", 401, absl::StatusCode::kUnauthenticated},
    {403002, "IotHubQuotaExceeded", 403, absl::StatusCode::kResourceExhausted},
    {403003, "JobQuotaExceeded", 403, absl::StatusCode::kResourceExhausted},
    {403010, "OperationNotAvailableInCurrentTier", 403,
     absl::StatusCode::kFailedPrecondition},
    {403800, "DeviceMaximumInflightMethodExceeded", 403,
     absl::StatusCode::kResourceExhausted},
    {404000, "GenericNotFound", 404, absl::StatusCode::kNotFound},
    {404001, "DeviceNotFound", 404, absl::StatusCode::kNotFound},
    {404002, "JobNotFound", 404, absl::StatusCode::kNotFound},
    {404010, "ModuleNotFound", 404, absl::StatusCode::kNotFound},
    {404103, "DeviceNotOnline", 404, absl::StatusCode::kUnavailable},
    {405000, "GenericMethodNotAllowed", 405, absl::StatusCode::kUnimplemented},
    {405102, "OperationNotAllowedInCurrentState", 405,
     absl::StatusCode::kFailedPrecondition},
    {409001, "DeviceAlreadyExists", 409, absl::StatusCode::kAlreadyExists},
    {409103, "DeviceJobAlreadyExists", 409, absl::StatusCode::kInternal},
    {409104, "JobAlreadyExists", 409, absl::StatusCode::kAlreadyExists},
    {412001, "PreconditionFailed", 412, absl::StatusCode::kAborted},
    {413001, "MessageTooLarge", 413, absl::StatusCode::kInvalidArgument},
    {415000, "GenericUnsupportedMediaType", 415,
     absl::StatusCode::kInvalidArgument},
    {429001, "ThrottlingException", 429, absl::StatusCode::kResourceExhausted},
    {429002, "ThrottleBacklogLimitExceeded", 429,
     absl::StatusCode::kResourceExhausted},
    {429003, "ThrottlingBacklogTimeout", 429,
     absl::StatusCode::kResourceExhausted},
    {429004, "ThrottlingMaxActiveJobCountExceeded", 429,
     absl::StatusCode::kResourceExhausted},
    {429005, "DeviceThrottlingLimitExceeded", 429,
     absl::StatusCode::kResourceExhausted},
    {499000, "ClientClosedRequest", 499, absl::StatusCode::kCancelled},
    {500001, "ServerError", 500, absl::StatusCode::kInternal},
    {502000, "InvalidResponseWhileProxying", 502,
     absl::StatusCode::kUnavailable},
    {503001, "ServiceUnavailable", 503, absl::StatusCode::kUnavailable},
    {504101, "GatewayTimeout", 504, absl::StatusCode::kDeadlineExceeded},
};

class ErrorTableTest : public testing::TestWithParam<Row> {};

TEST_P(ErrorTableTest, IsTheContracts) {
  const Row& row = GetParam();
  const ErrorInfo& info = ErrorInfoOf(static_cast<ErrorCode>(row.number));
  EXPECT_EQ(static_cast<int>(info.code), row.number);
  EXPECT_EQ(info.name, row.name);
  EXPECT_EQ(info.http_status, row.http_status);
  EXPECT_EQ(info.canonical, row.canonical);
  // "first three digits of the code"
  EXPECT_EQ(info.http_status, row.number / 1000);
  EXPECT_EQ(FindErrorByName(row.name), &info);

  const absl::Status status = MakeError(info.code, "what happened");
  EXPECT_EQ(status.code(), row.canonical);
  EXPECT_EQ(status.message(), "what happened");
  EXPECT_EQ(ErrorCodeOf(status), info.code);
}

INSTANTIATE_TEST_SUITE_P(Rows, ErrorTableTest, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& info) {
                           return absl::StrCat(info.param.number,
                                               info.param.name);
                         });

TEST(ErrorTest, NumbersAndNamesAreUnique) {
  std::set<int> numbers;
  std::set<std::string> names;
  for (const Row& row : kRows) {
    EXPECT_TRUE(numbers.insert(row.number).second) << row.number;
    EXPECT_TRUE(names.insert(std::string(row.name)).second) << row.name;
  }
}

TEST(ErrorTest, FeatureNotSupportedIsOurs) {
  const ErrorInfo& info = ErrorInfoOf(ErrorCode::kFeatureNotSupported);
  EXPECT_EQ(info.name, "FeatureNotSupported");
  EXPECT_EQ(info.http_status, 404);
  EXPECT_EQ(info.canonical, absl::StatusCode::kUnimplemented);
}

TEST(ErrorTest, UnknownNamesAreNotFound) {
  EXPECT_EQ(FindErrorByName(""), nullptr);
  EXPECT_EQ(FindErrorByName("jobNotFound"), nullptr);
  EXPECT_EQ(FindErrorByName("JobNotFound "), nullptr);
  // Public names that are not emitted.
  EXPECT_EQ(FindErrorByName("EtagDoesNotMatch"), nullptr);
  EXPECT_EQ(FindErrorByName("JobRunPreconditionFailed"), nullptr);
}

TEST(ErrorTest, OkIsOk) {
  EXPECT_EQ(ErrorCodeOf(absl::OkStatus()), ErrorCode::kOk);
}

TEST(ErrorTest, ErrorsMadeElsewhereGetTheNearestCode) {
  const struct {
    absl::Status status;
    ErrorCode code;
  } kCases[] = {
      {absl::InvalidArgumentError(""), ErrorCode::kArgumentInvalid},
      {absl::OutOfRangeError(""), ErrorCode::kArgumentInvalid},
      {absl::NotFoundError(""), ErrorCode::kGenericNotFound},
      {absl::AbortedError(""), ErrorCode::kPreconditionFailed},
      {absl::FailedPreconditionError(""), ErrorCode::kInvalidOperation},
      {absl::PermissionDeniedError(""), ErrorCode::kIotHubUnauthorizedAccess},
      {absl::UnauthenticatedError(""), ErrorCode::kIotHubUnauthorized},
      {absl::ResourceExhaustedError(""), ErrorCode::kThrottlingException},
      {absl::UnimplementedError(""), ErrorCode::kFeatureNotSupported},
      {absl::UnavailableError(""), ErrorCode::kServiceUnavailable},
      {absl::DeadlineExceededError(""), ErrorCode::kGatewayTimeout},
      {absl::CancelledError(""), ErrorCode::kClientClosedRequest},
      {absl::InternalError(""), ErrorCode::kServerError},
      {absl::UnknownError(""), ErrorCode::kServerError},
      {absl::DataLossError(""), ErrorCode::kServerError},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(ErrorCodeOf(c.status), c.code) << c.status;
  }
}

TEST(ErrorTest, APrefixKeepsEverythingElse) {
  absl::Status status = MakeError(ErrorCode::kMessageTooLarge, "too large");
  status.SetPayload("other", absl::Cord("kept"));
  const absl::Status prefixed = PrefixError("tags: ", status);
  EXPECT_EQ(prefixed.message(), "tags: too large");
  EXPECT_EQ(prefixed.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorCodeOf(prefixed), ErrorCode::kMessageTooLarge);
  EXPECT_EQ(prefixed.GetPayload("other"), status.GetPayload("other"));
}

}  // namespace
}  // namespace muster
