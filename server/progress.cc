#include "server/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/text.h"

namespace muster {
namespace {

// The bar of a wide terminal, and of others: it shall not change its length all
// the time.
constexpr int kBarColumns = 30;
constexpr int kBarColumnsNarrow = 10;
constexpr int kWide = 120;
constexpr int kPlainWidth = 160;
constexpr int kTerminalWidth = 79;  // If it does not tell.

// A person sees no more than ten a second; a log wants one a second, and less
// if it says the same as before.
constexpr absl::Duration kTerminalInterval = absl::Milliseconds(100);
constexpr absl::Duration kPlainInterval = absl::Seconds(1);
constexpr absl::Duration kPlainIntervalUnchanged = absl::Seconds(10);

constexpr absl::string_view kEraseToEndOfLine = "\x1b[K";

std::string CutToColumns(std::string text, int columns) {
  size_t i = 0;
  for (; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) == 0x80) continue;
    if (columns-- <= 0) break;
  }
  text.resize(i);
  return text;
}

std::string Bar(double share, int columns) {
  const int filled = static_cast<int>(share * columns);
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(columns - filled), '-'),
                      "]");
}

void AppendPart(absl::string_view part, std::string* out) {
  if (!part.empty()) absl::StrAppend(out, "  ", part);
}

}  // namespace

std::string FormatProgress(const Progress& p, int width) {
  const bool has_bar = p.total > 0;
  const double share = has_bar ? std::clamp(static_cast<double>(p.done) /
                                                static_cast<double>(p.total),
                                            0.0, 1.0)
                               : 0;
  std::string figures = p.figures;
  if (figures.empty()) {
    figures = p.total < 0 ? WithCommas(p.done)
                          : absl::StrCat(WithCommas(p.done), " of ",
                                         WithCommas(p.total));
  }
  std::string left = p.left;
  if (left.empty() && has_bar && p.rate > 0 && p.done < p.total) {
    left = absl::StrCat(ClockDuration(absl::Seconds(
                            static_cast<double>(p.total - p.done) / p.rate)),
                        " left");
  }

  std::string bar;
  std::string percent;
  if (has_bar) {
    bar = Bar(share, width >= kWide ? kBarColumns : kBarColumnsNarrow);
    // Rounded down: 100% means that nothing is missing.
    percent = absl::StrCat(static_cast<int>(share * 100), "%");
  }
  const std::string rate = ShortRate(p.rate);
  // Of these the first that fits.
  using Parts = std::vector<absl::string_view>;
  std::vector<Parts> choices = {{bar, percent, figures, p.detail, rate, left}};
  if (!p.short_detail.empty()) {
    choices.push_back({bar, percent, p.short_detail, rate, left});
    choices.push_back({bar, percent, p.short_detail, left});
    choices.push_back({bar, percent, p.short_detail});
  }
  choices.push_back({bar, percent, figures, rate, left});
  choices.push_back({percent, figures, rate, left});
  std::string out;
  for (const Parts& parts : choices) {
    out = p.label;
    for (absl::string_view part : parts) AppendPart(part, &out);
    if (ColumnsOf(out) <= width) return out;
  }
  return CutToColumns(std::move(out), width);
}

double RateMeter::Add(absl::Duration now, int64_t done) {
  samples_.push_back({now, done});
  // One sample from before the window stays: where the window begins.
  while (samples_.size() > 2 && samples_[1].time <= now - window_) {
    samples_.pop_front();
  }
  const Sample& first = samples_.front();
  const double seconds = absl::ToDoubleSeconds(now - first.time);
  if (seconds < 0.05) return -1;
  return static_cast<double>(done - first.done) / seconds;
}

ProgressLine::Mode ProgressLine::ModeForStderr(bool quiet) {
  if (quiet) return Mode::kOff;
  if (isatty(STDERR_FILENO) == 0) return Mode::kPlain;
  // Read before any other thread is there.
  const char* const term =
      std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
  return term == nullptr || absl::string_view(term) == "dumb" ? Mode::kPlain
                                                              : Mode::kTerminal;
}

ProgressLine::ProgressLine(Mode mode)
    : ProgressLine(mode, 0, [](absl::string_view text) {
        std::fwrite(text.data(), 1, text.size(), stderr);
        std::fflush(stderr);
      }) {}

ProgressLine::ProgressLine(Mode mode, int width, Write write)
    : mode_(mode), width_(width), write_(std::move(write)) {}

ProgressLine::~ProgressLine() { Clear(); }

int ProgressLine::Width() const {
  if (width_ != 0) return width_;
  if (mode_ == Mode::kPlain) return kPlainWidth;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    return kTerminalWidth;
  }
  // A character in the last column would wrap on some terminals.
  return std::max(20, size.ws_col - 1);
}

bool ProgressLine::IsDue(absl::Duration now) const {
  return mode_ != Mode::kOff &&
         now - last_time_ >=
             (mode_ == Mode::kTerminal ? kTerminalInterval : kPlainInterval);
}

void ProgressLine::Show(absl::Duration now, const Progress& progress) {
  if (IsDue(now)) ShowNow(now, progress);
}

void ProgressLine::ShowNow(absl::Duration now, const Progress& progress) {
  if (mode_ == Mode::kOff) return;
  const std::string line = FormatProgress(progress, Width());
  // What only counts down is no news.
  std::string news = absl::StrCat(progress.label, " ", progress.done, " ",
                                  progress.total, " ", progress.detail);
  if (mode_ == Mode::kPlain) {
    if (news == last_news_ && now - last_time_ < kPlainIntervalUnchanged) {
      return;
    }
    write_(absl::StrCat(line, "\n"));
  } else {
    write_(absl::StrCat("\r", line, kEraseToEndOfLine));
    shown_ = true;
  }
  last_time_ = now;
  last_news_ = std::move(news);
}

void ProgressLine::Note(absl::string_view line) {
  if (mode_ == Mode::kOff) return;
  Clear();
  write_(absl::StrCat(line, "\n"));
}

void ProgressLine::Clear() {
  if (shown_) write_(absl::StrCat("\r", kEraseToEndOfLine));
  shown_ = false;
  last_time_ = -absl::InfiniteDuration();
}

}  // namespace muster
