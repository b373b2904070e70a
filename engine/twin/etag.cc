#include "engine/twin/etag.h"

#include "absl/strings/escaping.h"
#include "absl/strings/strip.h"

namespace muster {

std::string EtagText(uint64_t counter) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>(counter >> (56 - 8 * i));
  }
  return absl::Base64Escape(absl::string_view(bytes, sizeof(bytes)));
}

std::optional<uint64_t> ParseEtag(absl::string_view text) {
  std::string bytes;
  if (text.size() != 12 || !absl::Base64Unescape(text, &bytes) ||
      bytes.size() != 8) {
    return std::nullopt;
  }
  uint64_t counter = 0;
  for (const char c : bytes) counter = counter << 8 | static_cast<uint8_t>(c);
  // Base64 has several spellings of eight bytes; only ours comes back the same.
  if (EtagText(counter) != text) return std::nullopt;
  return counter;
}

bool IfMatchAllows(absl::string_view if_match, uint64_t counter) {
  return if_match.empty() || IfMatchAllows(if_match, EtagText(counter));
}

bool IfMatchAllows(absl::string_view if_match, absl::string_view etag) {
  if (if_match.empty()) return true;
  absl::ConsumePrefix(&if_match, "W/");
  if (if_match.size() >= 2 && if_match.front() == '"' &&
      if_match.back() == '"') {
    if_match = if_match.substr(1, if_match.size() - 2);
  }
  return if_match == "*" || if_match == etag;
}

}  // namespace muster
