#include "server/table.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "server/text.h"

namespace muster {
namespace {

// What a terminal would obey becomes spaces: C0, DEL, and C1 (U+0080 to
// U+009F), whose bytes are 0xc2 and one of 0x80 to 0x9f.
void EraseControls(std::string* text) {
  bool after_c2 = false;
  for (char& c : *text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || byte == 0x7f) c = ' ';
    if (after_c2 && byte >= 0x80 && byte <= 0x9f) {
      *(&c - 1) = ' ';
      c = ' ';
    }
    after_c2 = byte == 0xc2;
  }
}

}  // namespace

Table::Table(std::vector<std::string> names) {
  for (std::string& name : names) {
    right_.push_back(name[0] == '>');
    if (right_.back()) name.erase(0, 1);
  }
  rows_.push_back(std::move(names));
}

void Table::AddRow(std::vector<std::string> cells) {
  MUSTER_CHECK(cells.size() == right_.size());
  for (std::string& cell : cells) {
    EraseControls(&cell);
  }
  rows_.push_back(std::move(cells));
}

std::string Table::Text(bool names) const {
  std::vector<int> widths(right_.size());
  for (const std::vector<std::string>& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], ColumnsOf(row[i]));
    }
  }
  std::string out;
  for (const std::vector<std::string>& row : rows_) {
    if (!names && &row == rows_.data()) continue;
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(static_cast<size_t>(widths[i] - ColumnsOf(row[i])),
                            ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", right_[i] ? gap : "", row[i],
                      right_[i] ? "" : gap);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

}  // namespace muster
