#include "transport/http/hub/router.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/model/check.h"

namespace muster::hub {
namespace {

constexpr absl::string_view kAny = "{}";

std::vector<absl::string_view> Segments(absl::string_view pattern) {
  return absl::StrSplit(pattern, '/', absl::SkipEmpty());
}

bool Matches(absl::Span<const absl::string_view> pattern,
             absl::Span<const std::string> segments) {
  if (pattern.size() != segments.size()) return false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != kAny && pattern[i] != segments[i]) return false;
  }
  return true;
}

}  // namespace

std::vector<Route> AllRoutes() {
  std::vector<Route> routes;
  for (const absl::Span<const Route> some :
       {JobRoutes(), QueryRoutes(), TwinRoutes(), MethodRoutes(),
        DeviceRoutes()}) {
    routes.insert(routes.end(), some.begin(), some.end());
  }
  return routes;
}

Router::Router(const std::vector<Route>& routes) {
  for (const Route& route : routes) {
    entries_.push_back({route, Segments(route.pattern)});
  }
  // Literals first, from the left; then by method, which makes Allow's order.
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) {
              const auto key = [](absl::string_view segment) {
                return std::pair(segment == kAny, segment);
              };
              for (size_t i = 0;
                   i < std::min(a.segments.size(), b.segments.size()); ++i) {
                if (a.segments[i] != b.segments[i]) {
                  return key(a.segments[i]) < key(b.segments[i]);
                }
              }
              return std::pair(a.segments.size(), a.route.method) <
                     std::pair(b.segments.size(), b.route.method);
            });
  for (size_t i = 1; i < entries_.size(); ++i) {
    MUSTER_CHECK(entries_[i - 1].segments != entries_[i].segments ||
                 entries_[i - 1].route.method != entries_[i].route.method);
  }
}

Router::Match Router::Find(absl::string_view method,
                           absl::Span<const std::string> segments) const {
  Match match;
  for (const Entry& entry : entries_) {
    if (!Matches(entry.segments, segments)) continue;
    if (entry.route.method == method) return {.route = &entry.route};
    if (!absl::StrContains(match.allowed, entry.route.method)) {
      absl::StrAppend(&match.allowed, match.allowed.empty() ? "" : ", ",
                      entry.route.method);
    }
  }
  return match;
}

std::vector<std::string> Router::TakeIds(const Route& route,
                                         std::vector<std::string> segments) {
  const std::vector<absl::string_view> pattern = Segments(route.pattern);
  MUSTER_CHECK(pattern.size() == segments.size());
  std::vector<std::string> ids;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == kAny) ids.push_back(std::move(segments[i]));
  }
  return ids;
}

}  // namespace muster::hub
