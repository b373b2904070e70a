// The target of a request, taken apart.
#ifndef TRANSPORT_HTTP_HUB_TARGET_H_
#define TRANSPORT_HTTP_HUB_TARGET_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace muster::hub {

struct Target {
  // What stands between the slashes, each decoded once.  Empty ones are left
  // out: "/devices/" is "/devices", as SDKs write it (wire-facts 6), and a
  // cancel without a job id ("/jobs/v2//cancel") is "/jobs/v2/cancel", which is
  // no way to create anything (contract 4.1: 405).
  std::vector<std::string> segments;
  // In their order, names and values decoded; a name without '=' has "".
  std::vector<std::pair<std::string, std::string>> query;

  // The segments, with a slash before each: what Access compares with a
  // token's resource.
  std::string Path() const;
};

// Takes any text.  "+" is a plus.  A "%" that does not begin an escape stands
// for itself: some clients do not encode job ids (wire-facts 4.2).
Target ParseTarget(absl::string_view target);

}  // namespace muster::hub

#endif  // TRANSPORT_HTTP_HUB_TARGET_H_
