// Etags of twins: a counter, and how callers spell it (contract 6.6, 6.7).
#ifndef ENGINE_TWIN_ETAG_H_
#define ENGINE_TWIN_ETAG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// Base64 of the counter's eight bytes, the highest first: 1 is "AAAAAAAAAAE=".
std::string EtagText(uint64_t counter);

// The counter behind an etag's text, without quotes; nullopt for text that
// EtagText() does not write, which is another hub's then.
std::optional<uint64_t> ParseEtag(absl::string_view text);

// Whether a write with this If-Match may change a twin with the etag `counter`.
// Always for "", * and "*"; otherwise the etag has to be the same, in the form
// "text", text or W/"text".
bool IfMatchAllows(absl::string_view if_match, uint64_t counter);
// The same for one that has the etag `etag`, which may be another hub's.
bool IfMatchAllows(absl::string_view if_match, absl::string_view etag);

}  // namespace muster

#endif  // ENGINE_TWIN_ETAG_H_
