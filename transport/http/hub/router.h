// Router: which route a request takes.
#ifndef TRANSPORT_HTTP_HUB_ROUTER_H_
#define TRANSPORT_HTTP_HUB_ROUTER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transport/http/hub/route.h"

namespace muster::hub {

// All routes of the surface: what the *Routes() functions say.
std::vector<Route> AllRoutes();

// Immutable, thread-safe.
class Router {
 public:
  // REQUIRES: no two routes have the same method and pattern.
  explicit Router(const std::vector<Route>& routes);

  struct Match {
    const Route* route = nullptr;  // The router's.  Null: there is none.
    // Of that path, with another method: "GET, PUT".  Empty: unknown path.
    // Only without a route.
    std::string allowed;
  };

  // O(routes).  Of two routes that match, the one with a literal where the
  // other has a {}, from the left.
  Match Find(absl::string_view method,
             absl::Span<const std::string> segments) const;

  // What stands where `route` has a {}, taken out of `segments`.
  // REQUIRES: `route` is what Find() gave for `segments`.
  static std::vector<std::string> TakeIds(const Route& route,
                                          std::vector<std::string> segments);

 private:
  struct Entry {
    Route route;
    std::vector<absl::string_view> segments;
  };
  // In the order in which they are tried.
  std::vector<Entry> entries_;
};

}  // namespace muster::hub

#endif  // TRANSPORT_HTTP_HUB_ROUTER_H_
