// Instants as text (contract 0.3, 1.11, 5.6.3).
#ifndef ENGINE_MODEL_INSTANT_H_
#define ENGINE_MODEL_INSTANT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// "2031-03-01T22:00:00.0104000Z": UTC, always seven digits.
std::string FormatInstant(absl::Time time);

// Reads an ISO-8601 date-time: date, 'T' (or 't', or one space), hours and
// minutes, optionally seconds and a fraction; then 'Z', an offset (+hh:mm,
// +hhmm, +hh) or nothing, which means UTC.  Extended form (2031-03-01T22:00:00)
// or basic (20310301T220000), not mixed.  Second 60 reads as 59.9999999.
// Fractions finer than 100 ns are cut.  nullopt for anything else, white space
// around it and instants outside of the years 1 to 9999 in UTC included.
std::optional<absl::Time> ParseInstant(absl::string_view text);

// The same, or a date alone, which means its midnight in UTC.
std::optional<absl::Time> ParseDateOrInstant(absl::string_view text);

}  // namespace muster

#endif  // ENGINE_MODEL_INSTANT_H_
