#include "transport/grpc/status.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "engine/query/parse_error.h"
#include "engine/query/utf8.h"
#include "google/protobuf/any.pb.h"
#include "google/rpc/error_details.pb.h"

namespace muster {
namespace {

constexpr absl::string_view kDomain = "muster";

// Payloads of absl::Status are named by the URLs that Any gives to messages.
constexpr absl::string_view kBadRequestUrl =
    "type.googleapis.com/google.rpc.BadRequest";
constexpr absl::string_view kRetryInfoUrl =
    "type.googleapis.com/google.rpc.RetryInfo";

// All of a call's trailing metadata has to fit into 8 KiB.  There the message
// stands up to four times: as grpc-message, where a byte that is not ASCII
// takes three, and in the details, which are in base64, as the status's
// message, as the description of a field and as what is wrong in a query.  That
// is 3 x 512 + 4 / 3 x (3 x 512 + 256) bytes, and some hundreds for names and
// numbers.
constexpr size_t kMessageSizeMax = 512;
constexpr size_t kFieldSizeMax = 256;

// What protobuf takes for a string, and not too long: messages may quote what a
// caller sent.
std::string WireText(absl::string_view text, size_t size_max) {
  std::string out;
  while (!text.empty()) {
    char32_t code_point;
    const int size = DecodeUtf8(text, &code_point);
    if (out.size() + std::max(size, 1) > size_max) {
      out.append("...");
      break;
    }
    if (size == 0) {
      out.push_back('?');
    } else {
      out.append(text.data(), size);
    }
    text.remove_prefix(std::max(size, 1));
  }
  return out;
}

// JOB_NOT_FOUND of JobNotFound.
std::string Reason(absl::string_view name) {
  std::string reason;
  for (size_t i = 0; i < name.size(); ++i) {
    if (i > 0 && absl::ascii_isupper(name[i]) &&
        !absl::ascii_isupper(name[i - 1])) {
      reason.push_back('_');
    }
    reason.push_back(absl::ascii_toupper(name[i]));
  }
  return reason;
}

template <typename Message>
std::optional<Message> PayloadOf(const absl::Status& status,
                                 absl::string_view url) {
  const absl::optional<absl::Cord> payload = status.GetPayload(url);
  Message message;
  if (!payload.has_value() || !message.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return message;
}

template <typename Message>
void SetPayload(absl::string_view url, const Message& message,
                absl::Status* status) {
  // A view: see MakeError().
  const std::string bytes = message.SerializeAsString();
  status->SetPayload(url, absl::Cord(absl::string_view(bytes)));
}

google::rpc::RetryInfo MakeRetryInfo(absl::Duration delay) {
  google::rpc::RetryInfo info;
  const int64_t seconds = absl::IDivDuration(delay, absl::Seconds(1), &delay);
  info.mutable_retry_delay()->set_seconds(seconds);
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(delay)));
  return info;
}

// What goes along with a status that says nothing of it.
bool MayBeRetried(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return true;
  return absl::IsResourceExhausted(status) &&
         ErrorCodeOf(status) != ErrorCode::kIotHubQuotaExceeded;
}

google::rpc::ErrorInfo MakeErrorInfo(const absl::Status& status) {
  const ErrorInfo& error = ErrorInfoOf(ErrorCodeOf(status));
  google::rpc::ErrorInfo info;
  info.set_reason(Reason(error.name));
  info.set_domain(std::string(kDomain));
  auto& metadata = *info.mutable_metadata();
  metadata["name"] = std::string(error.name);
  metadata["number"] = absl::StrCat(static_cast<int>(error.code));
  if (const std::optional<ParseError> parse = ParseErrorOf(status)) {
    metadata["line"] = absl::StrCat(parse->position.line);
    metadata["column"] = absl::StrCat(parse->position.column);
    metadata["what"] = WireText(parse->what, kMessageSizeMax);
  }
  return info;
}

// The status that MakeErrorInfo() was given, but for its other details.
absl::Status FromErrorInfo(absl::StatusCode code, absl::string_view message,
                           const google::rpc::ErrorInfo& info) {
  const absl::Status plain(code, message);
  const auto value = [&info](const char* key) {
    const auto it = info.metadata().find(key);
    return it == info.metadata().end() ? absl::string_view()
                                       : absl::string_view(it->second);
  };
  uint32_t number = 0;
  if (info.domain() != kDomain || !absl::SimpleAtoi(value("number"), &number) ||
      number == 0 || !IsErrorCode(number)) {
    return plain;
  }
  SourcePosition position;
  if (absl::SimpleAtoi(value("line"), &position.line) &&
      absl::SimpleAtoi(value("column"), &position.column)) {
    absl::Status parse = MakeParseError(position, value("what"));
    absl::string_view prefix = message;
    if (parse.code() == code && absl::ConsumeSuffix(&prefix, parse.message())) {
      return PrefixError(prefix, parse);
    }
  }
  absl::Status status = MakeError(static_cast<ErrorCode>(number), message);
  // An error without a number has the nearest one: it had its own code.
  return status.code() == code ? status : plain;
}

}  // namespace

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  if (status.ok()) return out;
  out.set_message(WireText(status.message(), kMessageSizeMax));
  out.add_details()->PackFrom(MakeErrorInfo(status));
  if (const auto bad =
          PayloadOf<google::rpc::BadRequest>(status, kBadRequestUrl)) {
    out.add_details()->PackFrom(*bad);
  }
  if (const auto retry =
          PayloadOf<google::rpc::RetryInfo>(status, kRetryInfoUrl)) {
    out.add_details()->PackFrom(*retry);
  } else if (MayBeRetried(status)) {
    out.add_details()->PackFrom(MakeRetryInfo(kRetryDelayDefault));
  }
  return out;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status rpc = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      rpc.message(), rpc.SerializeAsString());
}

absl::Status FromRpcStatus(const google::rpc::Status& rpc) {
  if (rpc.code() == 0) return absl::OkStatus();
  const auto code = rpc.code() < 0 || rpc.code() > 16
                        ? absl::StatusCode::kUnknown
                        : static_cast<absl::StatusCode>(rpc.code());
  absl::Status status(code, rpc.message());
  google::rpc::ErrorInfo info;
  for (const google::protobuf::Any& detail : rpc.details()) {
    if (detail.UnpackTo(&info)) {
      status = FromErrorInfo(code, rpc.message(), info);
    }
  }
  google::rpc::BadRequest bad;
  google::rpc::RetryInfo retry;
  for (const google::protobuf::Any& detail : rpc.details()) {
    if (detail.UnpackTo(&bad)) SetPayload(kBadRequestUrl, bad, &status);
    if (detail.UnpackTo(&retry)) SetPayload(kRetryInfoUrl, retry, &status);
  }
  return status;
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status rpc;
  if (!rpc.ParseFromString(status.error_details())) rpc.Clear();
  // What gRPC itself says of a call is what counts.
  rpc.set_code(status.error_code());
  rpc.set_message(status.error_message());
  return FromRpcStatus(rpc);
}

absl::Status FieldError(absl::string_view field,
                        absl::string_view description) {
  return AtField(field, MakeError(ErrorCode::kArgumentInvalid,
                                  absl::StrCat(field, ": ", description)));
}

absl::Status AtField(absl::string_view field, const absl::Status& status) {
  if (status.ok() || status.GetPayload(kBadRequestUrl).has_value()) {
    return status;
  }
  google::rpc::BadRequest bad;
  google::rpc::BadRequest::FieldViolation& violation =
      *bad.add_field_violations();
  violation.set_field(WireText(field, kFieldSizeMax));
  violation.set_description(WireText(status.message(), kMessageSizeMax));
  absl::Status out = status;
  SetPayload(kBadRequestUrl, bad, &out);
  return out;
}

std::string FieldOf(const absl::Status& status) {
  const auto bad = PayloadOf<google::rpc::BadRequest>(status, kBadRequestUrl);
  if (!bad.has_value() || bad->field_violations().empty()) return "";
  return bad->field_violations(0).field();
}

absl::Status WithRetryDelay(const absl::Status& status, absl::Duration delay) {
  absl::Status out = status;
  if (!out.ok()) SetPayload(kRetryInfoUrl, MakeRetryInfo(delay), &out);
  return out;
}

std::optional<absl::Duration> RetryDelayOf(const absl::Status& status) {
  if (const auto retry =
          PayloadOf<google::rpc::RetryInfo>(status, kRetryInfoUrl)) {
    return absl::Seconds(retry->retry_delay().seconds()) +
           absl::Nanoseconds(retry->retry_delay().nanos());
  }
  // A connection that was lost has nobody to say it.
  if (absl::IsUnavailable(status)) return kRetryDelayDefault;
  return std::nullopt;
}

}  // namespace muster
