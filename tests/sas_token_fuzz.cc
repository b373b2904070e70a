// Any bytes as an authorization: refused with one of the two errors, or from
// somebody whom the file knows.
//
// Beside it stands contract 4.7 word by word, step by step, and slow: both have
// to come to the same answer.  A fuzzer finds no signature; so whatever the
// bytes claim is signed as well, and asked again.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "tests/sas_signing.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"

namespace muster {
namespace {

constexpr absl::string_view kHub = "hub.example.net";
constexpr absl::string_view kKey =
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const absl::Time kNow = absl::FromUnixSeconds(1'900'000'000);

std::shared_ptr<const Access> MakeAccess() {
  return Access::
      Parse(absl::StrCat(
                R"({"policies":[{"name":"service","roles":["write","gateway"],)",
                R"("primaryKey":"Zm9yZWlnbmZvcmVpZ25mb3JlaWdu",)",
                R"("secondaryKey":")", kKey, R"("}],)",
                R"("tokens":[{"name":"bearer","roles":["read"],"sha256":")",
                HashBearerToken("known"), R"("}]})"),
            {.hub_name = std::string(kHub)})
          .value();
}

struct Answer {
  ErrorCode error = ErrorCode::kOk;
  std::string device;  // Empty: all of the hub.
};

Answer Refusal(ErrorCode error) { return {.error = error}; }

constexpr ErrorCode kUnauthorized = ErrorCode::kIotHubUnauthorized;  // 401003
constexpr ErrorCode kDenied = ErrorCode::kIotHubUnauthorizedAccess;  // 401002

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  return parts;
}

std::string Lower(std::string text) {
  for (char& c : text) {
    if ('A' <= c && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return text;
}

std::optional<std::string> Decode(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const std::string digits = text.substr(i + 1, 2);
    if (digits.size() != 2 ||
        digits.find_first_not_of("0123456789abcdefABCDEF") !=
            std::string::npos) {
      return std::nullopt;
    }
    out += static_cast<char>(std::strtol(digits.c_str(), nullptr, 16));
    i += 2;
  }
  return out;
}

// The fields of a token; nullopt if it is malformed (steps 1 and 2).
std::optional<std::map<std::string, std::string>> Fields(std::string text) {
  for (char& c : text) {
    if (c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r') c = ' ';
  }
  const std::vector<std::string> parts = Split(text, ' ');
  if (parts.size() != 2 || parts[0] != "SharedAccessSignature") {
    return std::nullopt;
  }
  std::map<std::string, std::string> fields;
  for (const std::string& field : Split(parts[1], '&')) {
    const size_t equals = field.find('=');
    const std::string name = Lower(field.substr(0, equals));
    const std::string value =
        equals == std::string::npos ? "" : field.substr(equals + 1);
    if (name != "sr" && name != "sig" && name != "se" && name != "skn")
      continue;
    if (!fields.emplace(name, value).second) return std::nullopt;
  }
  if (fields["sr"].empty() || fields["sig"].empty() || fields["se"].empty()) {
    return std::nullopt;
  }
  for (const char* name : {"sig", "se", "skn"}) {
    const std::optional<std::string> decoded = Decode(fields[name]);
    if (!decoded.has_value()) return std::nullopt;
    fields[name] = *decoded;
  }
  return fields;
}

// Whether `se` is more than 300 s ago; nullopt if it is no number of seconds in
// 63 bits.
std::optional<bool> HasExpired(std::string se) {
  if (se.empty() || se.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  se.erase(0, se.find_first_not_of('0'));
  const std::string max = "9223372036854775807";
  if (se.size() > max.size() || (se.size() == max.size() && se > max)) {
    return std::nullopt;
  }
  return se.size() < 10 || (se.size() == 10 && se < "1899999700");
}

// What the contract says about a signature.
Answer Verify(const std::string& text) {
  auto fields = Fields(text);
  if (!fields.has_value()) return Refusal(kUnauthorized);
  const std::optional<bool> expired = HasExpired((*fields)["se"]);  // Step 3.
  if (expired.value_or(true)) return Refusal(kUnauthorized);
  // Steps 4 and 5.
  const std::string& sr = (*fields)["sr"];
  if ((*fields)["skn"] != "service") return Refusal(kDenied);
  if ((*fields)["sig"] != SasSignature(kKey, sr, (*fields)["se"]) &&
      (*fields)["sig"] !=
          SasSignature("Zm9yZWlnbmZvcmVpZ25mb3JlaWdu", sr, (*fields)["se"])) {
    return Refusal(kDenied);
  }
  // Step 6.
  const std::optional<std::string> resource = Decode(sr);
  if (!resource.has_value()) return Refusal(kDenied);
  const std::vector<std::string> segments = Split(*resource, '/');
  if (Lower(segments[0]) != kHub) return Refusal(kDenied);
  if (segments.size() == 1) return {};
  if (segments.size() != 3 || segments[1] != "devices" || segments[2].empty()) {
    return Refusal(kDenied);
  }
  return {.device = segments[2]};
}

Answer Reference(const std::string& text) {
  if (text.empty() || text.size() > kAuthorizationSizeMax) {
    return Refusal(kUnauthorized);
  }
  if (Lower(text.substr(0, 7)) == "bearer ") {
    return Refusal(text.substr(7) == "known" ? ErrorCode::kOk : kUnauthorized);
  }
  return Verify(text);
}

void Check(const Access& access, const std::string& text) {
  const absl::StatusOr<Caller> caller =
      access.Authenticate({.authorization = text}, kNow);
  const Answer answer = Reference(text);
  if (!caller.ok()) {
    MUSTER_CHECK(ErrorCodeOf(caller.status()) == answer.error);
    return;
  }
  MUSTER_CHECK(answer.error == ErrorCode::kOk);
  if (caller->name == "bearer") {
    MUSTER_CHECK(caller->roles == RoleSet({Role::kRead}));
    return;
  }
  MUSTER_CHECK(caller->name == "service");
  MUSTER_CHECK(caller->expires >= kNow);
  MUSTER_CHECK(caller->devices.CoversAll() == answer.device.empty());
  if (answer.device.empty()) {
    MUSTER_CHECK(caller->roles == RoleSet({Role::kWrite, Role::kGateway}));
  } else {
    MUSTER_CHECK(caller->roles == RoleSet({Role::kGateway}));
    MUSTER_CHECK(caller->devices.Covers(answer.device));
    MUSTER_CHECK(!caller->devices.Covers(answer.device + "x"));
  }
}

void Fuzz(const std::string& text) {
  static const std::shared_ptr<const Access>& access =
      *new std::shared_ptr<const Access>(MakeAccess());
  Check(*access, text);
  auto fields = Fields(text);
  if (!fields.has_value()) return;
  // The same claims, signed.
  std::string se, skn;
  for (const char c : (*fields)["se"]) {
    absl::StrAppend(&se, "%", absl::BytesToHexString(std::string(1, c)));
  }
  for (const char c : (*fields)["skn"]) {
    absl::StrAppend(&skn, "%", absl::BytesToHexString(std::string(1, c)));
  }
  Check(*access,
        absl::StrCat("SharedAccessSignature sr=", (*fields)["sr"], "&sig=",
                     SasSignature(kKey, (*fields)["sr"], (*fields)["se"]),
                     "&se=", se, "&skn=", skn));
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::Fuzz(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
