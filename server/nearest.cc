#include "server/nearest.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"

namespace muster {

size_t EditDistance(absl::string_view a, absl::string_view b) {
  // Rows i - 2, i - 1 and i of the matrix of distances between prefixes.
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

absl::string_view NearestName(absl::string_view name,
                              absl::Span<const absl::string_view> known) {
  // Nobody means a name by a text that is ten times as long.
  constexpr size_t kLengthMax = 64;
  if (name.empty() || name.size() > kLengthMax) return "";
  const size_t distance_max = std::max<size_t>(1, name.size() / 3);
  absl::string_view best;
  size_t best_distance = distance_max + 1;
  for (absl::string_view candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty()) return best;
  for (absl::string_view candidate : known) {
    if (absl::StartsWith(candidate, name)) return candidate;
  }
  return "";
}

}  // namespace muster
