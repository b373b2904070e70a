#include "engine/query/parse_error.h"

#include <cstddef>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "engine/model/error.h"
#include "engine/query/utf8.h"

namespace muster {
namespace {

constexpr size_t kExcerptLengthMax = 40;  // Code points.

constexpr absl::string_view kPayloadUrl = "muster.query/parse_error";

}  // namespace

absl::Status MakeParseError(SourcePosition position, absl::string_view what) {
  const std::string text =
      absl::StrCat(position.line, ":", position.column, ": ", what);
  absl::Status status = MakeError(ErrorCode::kArgumentInvalid, text);
  status.SetPayload(kPayloadUrl, absl::Cord(text));
  return status;
}

std::optional<ParseError> ParseErrorOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string text(*payload);
  const std::vector<absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 2));
  ParseError error;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &error.position.line) ||
      !absl::SimpleAtoi(parts[1], &error.position.column)) {
    return std::nullopt;
  }
  error.what = std::string(parts[2].substr(1));
  return error;
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("'", Excerpt(text), "'");
}

std::string Excerpt(absl::string_view text) {
  const size_t cut = Utf8Offset(text, kExcerptLengthMax);
  std::string out;
  for (const char c : text.substr(0, cut)) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppend(&out, "\\x", absl::Hex(c, absl::kZeroPad2));
    } else {
      out.push_back(c);
    }
  }
  if (cut < text.size()) out.append("...");
  return out;
}

}  // namespace muster
