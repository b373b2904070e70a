// UpdateTwin's masks: which parts of a twin are set to what a document has.
//
//   mask                           document            tags before  tags after
//   tags                           {"tags":{"b":1}}    {"a":1}      {"b":1}
//   tags.a                         {"tags":{"a":2}}    {"a":1,"b":1}
//   {"a":2,"b":1} tags.a                         {} {"a":1,"b":1}  {"b":1}
//   properties.desired.x.y         ... as deep as one likes
#ifndef TRANSPORT_GRPC_TWIN_MASK_H_
#define TRANSPORT_GRPC_TWIN_MASK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "google/protobuf/field_mask.pb.h"

namespace muster {

inline constexpr int kMaskPathsMax = 100;

class TwinMask {
 public:
  // FieldError("update_mask", ...): no path, too many, or one that is neither
  // in tags nor in properties.desired.
  static absl::StatusOr<TwinMask> Parse(
      const google::protobuf::FieldMask& mask);

  // Whether it names whole sections only, so that what the twin has does not
  // matter.
  bool whole_sections() const;

  // The sections that the mask names, as they are to be: JSON text of a
  // document for Engine::ReplaceTwin().  `twin` is the whole twin as it is,
  // which may be undefined if whole_sections().
  std::string Apply(JsonView twin, JsonView document) const;

 private:
  // Below the section; empty for all of it.
  using MaskPath = std::vector<std::string>;

  std::vector<MaskPath> tags_;
  std::vector<MaskPath> desired_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_TWIN_MASK_H_
