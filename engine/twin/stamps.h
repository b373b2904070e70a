// Stamps: when each node of a section was last touched, kept sparsely.
//
// A section's `$metadata` mirrors it node by node and would take more room than
// the section.  But most nodes of most twins came with one write and were never
// touched since.  So a section has one base stamp, which holds for every node,
// and an overlay only of the nodes touched since:
//
//   section   {"fw": {"version": "1.4", "ring": 2}, "interval": 30}
//   base      monday, $version 1
//   overlay   section tuesday 2 > fw tuesday 2 > version tuesday 2
//
// `$metadata` is built from the three when somebody asks.
//
// Which nodes a merge patch touches (contract 6.6): the section, and every node
// that the patch names and that is there afterwards.  So an update stamps the
// leaf and its ancestors, a removal the ancestors, and an array is one node.
//
// An overlay is a tree in bytes, empty if nothing was touched:
//
//   node     = head:8 [time:64 version:varint] [(length:varint key node)* 0:8]
//   head     bit 0: the node has a stamp of its own; else it is its parent's
//            bit 1: it has children
//
// Children stand in ascending order of keys, as members do.
#ifndef ENGINE_TWIN_STAMPS_H_
#define ENGINE_TWIN_STAMPS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/json.h"

namespace muster {

// Instants as rows keep them: 100 ns since 1970, the resolution of their text.
int64_t TicksFromTime(absl::Time time);
absl::Time TimeFromTicks(int64_t ticks);

struct Stamp {
  int64_t ticks = 0;
  // `$version` of the update, printed as `$lastUpdatedVersion`; 0 prints none.
  int64_t version = 0;

  friend bool operator==(const Stamp&, const Stamp&) = default;
};

// The overlay after `patch` was merged into `section` (as it was before).
// REQUIRES: both are objects; `overlay` is the section's.
std::string MergeStamps(absl::string_view overlay, JsonView section,
                        JsonView patch, Stamp stamp);

// The section's `$metadata`.  `$` members of `section` are left out.
Json MetadataJson(Stamp base, absl::string_view overlay, JsonView section);

}  // namespace muster

#endif  // ENGINE_TWIN_STAMPS_H_
