// One list of fields says what each is called and what it may be; a checker and
// a reader of JSON walk over it.
#include "transport/loopback/loopback_options.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/json.h"
#include "transport/loopback/loopback_model.h"

namespace muster {
namespace {

constexpr absl::Duration kLatencyMax = absl::Hours(1);
constexpr absl::Duration kStayMax = absl::Hours(24 * 365);
constexpr double kSlowFactorMax = 1000;

using Distribution = LoopbackLatency::Distribution;

struct DistributionName {
  absl::string_view name;
  Distribution value;
};

constexpr DistributionName kDistributions[] = {
    {"constant", Distribution::kConstant},
    {"uniform", Distribution::kUniform},
    {"lognormal", Distribution::kLognormal},
};

// The durations of the latency's distribution.
template <typename Options, typename Visitor>
void VisitLatency(Options& latency, Visitor& visitor) {
  switch (latency.distribution) {
    case Distribution::kConstant:
      visitor.Time("value", latency.value, kLatencyMax);
      return;
    case Distribution::kUniform:
      visitor.Time("min", latency.min, kLatencyMax);
      visitor.Time("max", latency.max, kLatencyMax);
      return;
    case Distribution::kLognormal:
      visitor.Time("min", latency.min, kLatencyMax);
      visitor.Time("median", latency.median, kLatencyMax);
      visitor.Time("p99", latency.p99, kLatencyMax);
      return;
  }
}

// Every field but `latency` and `response_payload`, which are no plain values.
template <typename Options, typename Visitor>
void VisitFields(Options& o, Visitor& visitor) {
  constexpr double kInt32Min = std::numeric_limits<int32_t>::min();
  constexpr double kInt32Max = std::numeric_limits<int32_t>::max();
  visitor.Seed("seed", o.seed);
  visitor.Real("slow_share", o.slow_share, 0, 1);
  visitor.Real("slow_factor", o.slow_factor, 1, kSlowFactorMax);
  visitor.Real("error_status_share", o.error_status_share, 0, 1);
  visitor.Real("no_handler_share", o.no_handler_share, 0, 1);
  visitor.Real("no_answer_share", o.no_answer_share, 0, 1);
  visitor.Real("bad_response_share", o.bad_response_share, 0, 1);
  visitor.Real("response_too_large_share", o.response_too_large_share, 0, 1);
  visitor.Real("link_lost_share", o.link_lost_share, 0, 1);
  visitor.Real("busy_share", o.busy_share, 0, 1);
  visitor.Int("response_status", o.response_status, kInt32Min, kInt32Max);
  visitor.Int("error_status", o.error_status, kInt32Min, kInt32Max);
  visitor.Real("offline_share", o.offline_share, 0, 1);
  visitor.Time("reconnect_min", o.reconnect_min, kStayMax);
  visitor.Time("reconnect_max", o.reconnect_max, kStayMax);
  visitor.Time("drop_mean", o.drop_mean, kStayMax);
  visitor.Int("send_window", o.send_window, 0, kInt32Max);
  visitor.Bool("answer_unknown", o.answer_unknown);
  visitor.Bool("record_calls", o.record_calls);
}

absl::Status OutOfRange(absl::string_view name, absl::string_view what,
                        absl::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, " must be ", what, "; got ", got));
}

// How fields and durations are called in messages, in C++ and in JSON.
enum class Naming { kCpp, kJson };

std::string TimeName(Naming naming, absl::string_view name) {
  return absl::StrCat(name, naming == Naming::kJson ? "_ms" : "");
}

std::string TimeText(Naming naming, absl::Duration d) {
  if (naming == Naming::kCpp) return absl::FormatDuration(d);
  const int64_t milliseconds = absl::ToInt64Milliseconds(d);
  return absl::Milliseconds(milliseconds) == d
             ? absl::StrCat(milliseconds)  // Not "3.6e+06".
             : absl::StrCat(absl::ToDoubleMilliseconds(d));
}

std::string TimeRange(Naming naming, absl::Duration max) {
  return absl::StrCat(
      naming == Naming::kJson ? "a number in [0, " : "a duration in [0, ",
      TimeText(naming, max), "]");
}

// Looks whether each field is in its range; keeps the first error.
class Checker {
 public:
  Checker(Naming naming, absl::string_view prefix)
      : naming_(naming), prefix_(prefix) {}

  void Seed(absl::string_view, uint64_t) {}
  template <typename T>
  void Int(absl::string_view name, T value, double min, double max) {
    const double number = static_cast<double>(value);
    if (number >= min && number <= max) return;
    Fail(OutOfRange(name,
                    absl::StrCat("an integer in [", static_cast<int64_t>(min),
                                 ", ", static_cast<int64_t>(max), "]"),
                    absl::StrCat(value)));
  }
  void Real(absl::string_view name, double value, double min, double max) {
    if (value >= min && value <= max) return;  // False for NaN.
    Fail(OutOfRange(name, absl::StrCat("a number in [", min, ", ", max, "]"),
                    absl::StrCat(value)));
  }
  void Time(absl::string_view name, absl::Duration value, absl::Duration max) {
    if (value >= absl::ZeroDuration() && value <= max) return;
    Fail(OutOfRange(absl::StrCat(prefix_, TimeName(naming_, name)),
                    TimeRange(naming_, max), TimeText(naming_, value)));
  }
  void Bool(absl::string_view, bool) {}

  void Fail(absl::Status status) { status_.Update(std::move(status)); }
  absl::Status status() const { return status_; }

 private:
  const Naming naming_;
  const std::string prefix_;
  absl::Status status_;
};

absl::Status Validate(const LoopbackOptions& options, Naming naming) {
  Checker checker(naming, "");
  VisitFields(options, checker);
  Checker latency_checker(naming, "latency.");
  VisitLatency(options.latency, latency_checker);
  checker.Fail(latency_checker.status());
  if (!checker.status().ok()) return checker.status();

  // Fields that limit each other.
  const auto ordered = [naming](absl::string_view prefix, absl::string_view low,
                                absl::Duration low_value,
                                absl::string_view high,
                                absl::Duration high_value, bool may_be_equal) {
    if (low_value < high_value || (may_be_equal && low_value == high_value)) {
      return absl::OkStatus();
    }
    return OutOfRange(absl::StrCat(prefix, TimeName(naming, high)),
                      absl::StrCat(may_be_equal ? "at least " : "more than ",
                                   prefix, TimeName(naming, low), " (",
                                   TimeText(naming, low_value), ")"),
                      TimeText(naming, high_value));
  };
  const LoopbackLatency& latency = options.latency;
  if (latency.distribution == Distribution::kUniform) {
    checker.Fail(
        ordered("latency.", "min", latency.min, "max", latency.max, true));
  }
  if (latency.distribution == Distribution::kLognormal) {
    checker.Fail(ordered("latency.", "min", latency.min, "median",
                         latency.median, false));
    checker.Fail(ordered("latency.", "median", latency.median, "p99",
                         latency.p99, true));
  }
  checker.Fail(ordered("", "reconnect_min", options.reconnect_min,
                       "reconnect_max", options.reconnect_max, true));

  const double sum = options.error_status_share + options.no_handler_share +
                     options.no_answer_share + options.bad_response_share +
                     options.response_too_large_share +
                     options.link_lost_share + options.busy_share;
  if (sum > 1 + 1e-9) {  // Ten tenths are 1 here, whatever a double says.
    checker.Fail(OutOfRange(
        "the sum of error_status_share, no_handler_share, no_answer_share, "
        "bad_response_share, response_too_large_share, link_lost_share and "
        "busy_share",
        "at most 1", absl::StrCat(sum)));
  }
  if (!checker.status().ok()) return checker.status();

  if (!options.response_payload.empty()) {
    // As a call would fill it in.
    std::string payload;
    LoopbackModel(options).AppendPayload("id", "method", "{}", &payload);
    if (absl::StatusOr<Json> json = ParseJson(payload); !json.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "response_payload must be JSON text, with \"${payload}\" "
          "as a value only: ",
          json.status().message()));
    }
  }
  return absl::OkStatus();
}

// ------------------------------------------------------------------ from JSON

// Insertions, deletions and replacements that lead from `a` to `b`.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

// Reads each field from the member with its name; keeps the first error.
class Reader {
 public:
  // `prefix` goes before names in messages.
  Reader(JsonView object, absl::string_view prefix)
      : object_(object), prefix_(prefix) {}

  // JSON has no integers of 64 bits without a sign.
  void Seed(absl::string_view name, uint64_t& field) {
    const JsonView value = Take(name);
    if (value.is_undefined()) return;
    if (!value.is_integer() || value.int_value() < 0) {
      Fail(name, "an integer in [0, 2^63 - 1]", value);
      return;
    }
    field = static_cast<uint64_t>(value.int_value());
  }
  template <typename T>
  void Int(absl::string_view name, T& field, double min, double max) {
    const JsonView value = Take(name);
    if (value.is_undefined()) return;
    if (!value.is_integer() || static_cast<double>(value.int_value()) < min ||
        static_cast<double>(value.int_value()) > max) {
      Fail(name,
           absl::StrCat("an integer in [", static_cast<int64_t>(min), ", ",
                        static_cast<int64_t>(max), "]"),
           value);
      return;
    }
    field = static_cast<T>(value.int_value());
  }
  void Real(absl::string_view name, double& field, double min, double max) {
    const JsonView value = Take(name);
    if (value.is_undefined()) return;
    if (!value.is_number() || !(value.number_value() >= min) ||
        !(value.number_value() <= max)) {
      Fail(name, absl::StrCat("a number in [", min, ", ", max, "]"), value);
      return;
    }
    field = value.number_value();
  }
  void Time(absl::string_view field_name, absl::Duration& field,
            absl::Duration max) {
    const std::string name = TimeName(Naming::kJson, field_name);
    const JsonView value = Take(name);
    if (value.is_undefined()) return;
    if (!value.is_number() || !(value.number_value() >= 0) ||
        !(value.number_value() <= absl::ToDoubleMilliseconds(max))) {
      Fail(name, TimeRange(Naming::kJson, max), value);
      return;
    }
    field = absl::Milliseconds(value.number_value());
  }
  void Bool(absl::string_view name, bool& field) {
    const JsonView value = Take(name);
    if (value.is_undefined()) return;
    if (!value.is_bool()) {
      Fail(name, "true or false", value);
      return;
    }
    field = value.bool_value();
  }

  // The member `name`, which is known from now on.
  JsonView Take(absl::string_view name) {
    known_.emplace_back(name);
    return object_.Find(name);
  }

  void Fail(absl::string_view name, absl::string_view what, JsonView value) {
    const bool scalar =
        value.is_number() || value.is_bool() || value.is_string();
    Fail(OutOfRange(
        absl::StrCat(prefix_, name), what,
        scalar ? JsonText(value) : std::string(JsonKindName(value.kind()))));
  }
  void Fail(absl::Status status) { status_.Update(std::move(status)); }

  // Refuses members that nobody asked for.
  absl::Status Finish() {
    for (const JsonView::Member& member : object_.members()) {
      if (std::find(known_.begin(), known_.end(), member.key) != known_.end()) {
        continue;
      }
      const auto nearest = std::min_element(
          known_.begin(), known_.end(),
          [&member](const std::string& a, const std::string& b) {
            return EditDistance(member.key, a) < EditDistance(member.key, b);
          });
      Fail(absl::InvalidArgumentError(absl::StrCat(
          "unknown member \"", prefix_, member.key,
          "\"; the nearest known one is \"", prefix_, *nearest, "\"")));
      break;
    }
    return status_;
  }

 private:
  const JsonView object_;
  const absl::string_view prefix_;
  std::vector<std::string> known_;
  absl::Status status_;
};

absl::Status ReadLatency(JsonView value, LoopbackLatency& latency) {
  if (!value.is_object()) {
    return OutOfRange("latency", "an object", JsonKindName(value.kind()));
  }
  Reader reader(value, "latency.");
  const JsonView distribution = reader.Take("distribution");
  const auto* known =
      std::find_if(std::begin(kDistributions), std::end(kDistributions),
                   [distribution](const DistributionName& d) {
                     return distribution.is_string() &&
                            d.name == distribution.string_value();
                   });
  if (known == std::end(kDistributions)) {
    reader.Fail("distribution", "\"constant\", \"uniform\" or \"lognormal\"",
                distribution);
    // A misspelt name is the better explanation of a missing one.
    LoopbackLatency unused;
    for (const DistributionName& d : kDistributions) {
      unused.distribution = d.value;
      VisitLatency(unused, reader);
    }
  } else {
    latency.distribution = known->value;
    VisitLatency(latency, reader);
  }
  return reader.Finish();
}

}  // namespace

absl::Status ValidateLoopbackOptions(const LoopbackOptions& options) {
  return Validate(options, Naming::kCpp);
}

absl::StatusOr<LoopbackOptions> ParseLoopbackOptions(absl::string_view json) {
  const absl::StatusOr<Json> root = ParseJson(json);
  if (!root.ok()) return root.status();
  if (!root->view().is_object()) {
    return OutOfRange("the options", "a JSON object",
                      JsonKindName(root->view().kind()));
  }
  LoopbackOptions options;
  Reader reader(root->view(), "");
  VisitFields(options, reader);
  if (const JsonView latency = reader.Take("latency");
      !latency.is_undefined()) {
    reader.Fail(ReadLatency(latency, options.latency));
  }
  if (const JsonView payload = reader.Take("response_payload");
      !payload.is_undefined() && !payload.is_null()) {
    options.response_payload = JsonText(payload);
  }
  if (absl::Status s = reader.Finish(); !s.ok()) return s;
  if (absl::Status s = Validate(options, Naming::kJson); !s.ok()) return s;
  return options;
}

}  // namespace muster
