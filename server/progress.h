// Progress: how far something is, on one line.
//
//   reboot  [##############------]  70%  700,113 of 1,000,000  1.23 M/s  0:01
//   left
//
// On a terminal the line is rewritten in place; elsewhere it is a plain line
// about every second, as long as something happens.
#ifndef SERVER_PROGRESS_H_
#define SERVER_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

struct Progress {
  std::string label;
  int64_t done = 0;
  int64_t total = -1;   // < 0: unknown, no bar.
  std::string figures;  // Instead of "<done> of <total>".
  std::string detail;   // Left out where it does not fit ...
  // ... for this, which then stands for the figures, too; may be empty.
  std::string short_detail;
  double rate = -1;  // Per second; < 0: unknown.
  // Behind the rate: what is to come.  Empty: the time left, if the rate is
  // known.
  std::string left;
};

// The line, cut to `width` columns; the bar gets what is left of them, up
// to 30.
std::string FormatProgress(const Progress& progress, int width);

// How fast a number grows: over the last few seconds, so that a rate follows
// what happens and still does not flicker.
class RateMeter {
 public:
  explicit RateMeter(absl::Duration window = absl::Seconds(4))
      : window_(window) {}

  // Instants must not decrease.  Returns the rate per second, or -1 as long as
  // there is too little to tell.
  double Add(absl::Duration now, int64_t done);

 private:
  struct Sample {
    absl::Duration time;
    int64_t done;
  };

  const absl::Duration window_;
  std::deque<Sample> samples_;
};

// Where a Progress is shown.  One thread at a time.
class ProgressLine {
 public:
  enum class Mode { kOff, kPlain, kTerminal };
  using Write = std::function<void(absl::string_view)>;

  // kOff if `quiet`; kTerminal if standard error is a terminal that can rewrite
  // a line.
  static Mode ModeForStderr(bool quiet);

  // On standard error, as wide as the terminal.
  explicit ProgressLine(Mode mode);
  // For tests: `write` gets what would be shown.
  ProgressLine(Mode mode, int width, Write write);
  // As Clear().
  ~ProgressLine();

  Mode mode() const { return mode_; }

  // Whether Show() would show something at `now`, so that a caller need not
  // collect figures for nothing.
  bool IsDue(absl::Duration now) const;
  // Shows the progress, unless the last one was shown just before.  `now`:
  // monotonic.
  void Show(absl::Duration now, const Progress& progress);
  // The same, but always: for what will stand there for a while.
  void ShowNow(absl::Duration now, const Progress& progress);
  // A line of its own, above the progress; shown at once.  Not with kOff.
  void Note(absl::string_view line);
  // Takes the line off the terminal: something else will be written.
  void Clear();

 private:
  int Width() const;

  const Mode mode_;
  const int width_;  // 0: the terminal's.
  const Write write_;
  bool shown_ = false;  // There is a line on the terminal.
  absl::Duration last_time_ = -absl::InfiniteDuration();
  std::string last_news_;
};

}  // namespace muster

#endif  // SERVER_PROGRESS_H_
