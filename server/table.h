// Table: rows of text in columns, for people.
//
//   JOB        STATUS     DEVICES
//   reboot-43  completed   12,345
#ifndef SERVER_TABLE_H_
#define SERVER_TABLE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace muster {

class Table {
 public:
  // A name that begins with `>` stands for a column of numbers, which is
  // aligned at its right; the sign is not shown.
  explicit Table(std::vector<std::string> names);

  // REQUIRES: a cell for each column.  Control characters in cells are shown as
  // spaces.
  void AddRow(std::vector<std::string> cells);

  // All of it, names first if they are wanted; two spaces between columns, none
  // at a line's end.
  std::string Text(bool names = true) const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // The first has the names.
};

}  // namespace muster

#endif  // SERVER_TABLE_H_
