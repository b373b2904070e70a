// Nearest: what somebody may have meant who mistyped a name.
#ifndef SERVER_NEAREST_H_
#define SERVER_NEAREST_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace muster {

// Insertions, deletions, replacements and swaps of neighbours that turn `a`
// into `b` (optimal string alignment).  O(|a| * |b|).
size_t EditDistance(absl::string_view a, absl::string_view b);

// The known name that is nearest to `name`, or "" if none is near: a third of
// its characters may differ, one in short names.  A name that starts with
// `name` is near, too.
absl::string_view NearestName(absl::string_view name,
                              absl::Span<const absl::string_view> known);

}  // namespace muster

#endif  // SERVER_NEAREST_H_
