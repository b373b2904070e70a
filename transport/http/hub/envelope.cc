#include "transport/http/hub/envelope.h"

#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/utf8.h"
#include "transport/http/hub/route.h"

namespace muster::hub {
namespace {

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    char32_t ignored;
    const int size = DecodeUtf8(text, &ignored);
    if (size == 0) return false;
    text.remove_prefix(static_cast<size_t>(size));
  }
  return true;
}

// Both parts of the message must be there, or clients show the whole body.
std::string MessageText(absl::string_view text, absl::string_view name) {
  if (text.empty()) return std::string(name);
  const std::string legible =
      IsUtf8(text) ? std::string(text) : absl::CHexEscape(text);
  return absl::StrReplaceAll(legible, {{";", ","}});
}

std::string TrackingId(const RandomSource& random) {
  uint8_t bytes[16];
  random(absl::MakeSpan(bytes));
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes), sizeof(bytes)));
}

HttpResponse Envelope(int http_status, absl::string_view name,
                      absl::string_view text, absl::Time now,
                      const RandomSource& random) {
  std::string body;
  JsonWriter w(&body);
  w.BeginObject();
  w.Key("Message").String(
      absl::StrCat("ErrorCode:", name, ";", MessageText(text, name)));
  w.Key("ExceptionMessage")
      .String(absl::StrCat(
          "Tracking ID:", TrackingId(random), "-G:0-TimeStamp:",
          absl::FormatTime("%m/%d/%E4Y %H:%M:%S", now, absl::UTCTimeZone())));
  w.EndObject();
  HttpResponse response = JsonResponse(std::move(body));
  response.status = http_status;
  response.headers.emplace_back("iothub-errorcode", std::string(name));
  return response;
}

ErrorCode NearestCode(int http_status) {
  switch (http_status) {
    case 404:
      return ErrorCode::kGenericNotFound;
    case 405:
      return ErrorCode::kGenericMethodNotAllowed;
    case 408:
      return ErrorCode::kRequestTimedOut;
    case 413:
      return ErrorCode::kMessageTooLarge;
    case 429:
      return ErrorCode::kThrottlingException;
    case 503:
      return ErrorCode::kServiceUnavailable;
    case 500:
      return ErrorCode::kServerError;
    default:
      return ErrorCode::kGenericBadRequest;
  }
}

}  // namespace

HttpResponse ErrorResponse(const absl::Status& status, absl::Time now,
                           const RandomSource& random) {
  MUSTER_CHECK(!status.ok());
  const ErrorInfo& info = ErrorInfoOf(ErrorCodeOf(status));
  return Envelope(info.http_status, info.name, status.message(), now, random);
}

HttpResponse HttpErrorResponse(int http_status, absl::string_view why,
                               absl::Time now, const RandomSource& random) {
  MUSTER_CHECK(http_status >= 400 && http_status <= 599);
  return Envelope(http_status, ErrorInfoOf(NearestCode(http_status)).name, why,
                  now, random);
}

}  // namespace muster::hub
