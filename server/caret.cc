#include "server/caret.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/model/error.h"
#include "engine/query/parse_error.h"

namespace muster {
namespace {

// Columns of a line that are shown around an error.
constexpr int kColumnsMax = 76;
constexpr int kColumnsBefore = 50;

std::vector<absl::string_view> CodePoints(absl::string_view text) {
  std::vector<absl::string_view> points;
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    while (end < text.size() &&
           (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
      ++end;
    }
    points.push_back(text.substr(i, end - i));
    i = end;
  }
  return points;
}

}  // namespace

std::string CaretLines(const absl::Status& error, absl::string_view text) {
  const std::optional<ParseError> parse_error = ParseErrorOf(error);
  if (!parse_error.has_value()) return "";
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  const int line = parse_error->position.line;
  if (line < 1 || line > static_cast<int>(lines.size())) return "";

  const std::vector<absl::string_view> points =
      CodePoints(lines[static_cast<size_t>(line - 1)]);
  const int size = static_cast<int>(points.size());
  // The end of the text is one past its last column.
  const int column = std::clamp(parse_error->position.column - 1, 0, size);
  const int from =
      size <= kColumnsMax
          ? 0
          : std::max(0, std::min(column - kColumnsBefore, size - kColumnsMax));
  const int to = std::min(size, from + kColumnsMax);

  std::string shown = from > 0 ? "  ..." : "  ";
  std::string caret(shown.size(), ' ');
  for (int i = from; i < to; ++i) {
    // Control characters would move the caret, a tab among them.
    const absl::string_view point = points[static_cast<size_t>(i)];
    const bool control =
        point.size() == 1 && static_cast<unsigned char>(point[0]) < 0x20;
    absl::StrAppend(&shown, control ? " " : point);
  }
  caret.append(static_cast<size_t>(column - from), ' ');
  return absl::StrCat(shown, to < size ? "..." : "", "\n", caret, "^\n");
}

std::string DescribeError(const absl::Status& error) {
  const ErrorCode code = ErrorCodeOf(error);
  if (error.ok() || code == ErrorCode::kOk) return std::string(error.message());
  return absl::StrCat(ErrorInfoOf(code).name, " (", static_cast<int>(code),
                      "): ", error.message());
}

}  // namespace muster
