// Figures as people read them.
#ifndef SERVER_TEXT_H_
#define SERVER_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// "1,234,567".
std::string WithCommas(int64_t number);

// "9999", "12.3k", "1.23M": at most five characters up to a billion.
std::string ShortCount(int64_t number);

// "1,234,567 devices", "1 device": `singular` gets an s if `number` is not 1.
std::string Counted(int64_t number, absl::string_view singular);

// Three significant digits: "850 us", "4.20 ms", "1.32 s", from a minute on
// "1:05" and "2:01:05".  REQUIRES: >= 0.
std::string ShortDuration(absl::Duration duration);

// Whole seconds as "0:05", "12:00", "2:01:05", "3 d 4:00:00"; rounded up, so
// that a countdown shows 0:00 only at its end.
std::string ClockDuration(absl::Duration duration);

// "1.23 M/s", "45.6 k/s", "789/s", "0.50/s".  Empty for what is no rate: an
// infinite or negative one.
std::string ShortRate(double per_second);

// "734.8 MB", "12.0 kB", "17 B".
std::string ShortBytes(int64_t bytes);

// How many columns of a terminal UTF-8 `text` takes, near enough: its code
// points.
int ColumnsOf(absl::string_view text);

// `text` if it takes no more than `columns`; else its beginning and "...".
// Cuts between code points.  REQUIRES: columns >= 3.
std::string CutToColumns(absl::string_view text, int columns);

}  // namespace muster

#endif  // SERVER_TEXT_H_
