// A model of a twin: a tree in which each node has a stamp of its own, slow and
// obviously right.  The index under test is compared with it.
//
// Seconds count from At(0) of twin_testing.h.
#ifndef TESTS_TWIN_MODEL_H_
#define TESTS_TWIN_MODEL_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/twin/shard.h"

namespace muster {

// A value of a patch or of a twin.
struct Tree {
  enum Kind { kNull, kLeaf, kObject } kind = kObject;
  std::string leaf;  // JSON text of a primitive or an array.
  std::map<std::string, Tree> members;
  int second = 0;  // Of the last touch.
  int64_t version = 0;
};

// `value` without members whose name begins with `$`; undefined is an empty
// object.
Tree TreeOf(JsonView value);

// JSON text.
std::string Text(const Tree& tree, int64_t section_version = 0,
                 const std::string& metadata = "");

// An object of members that are JSON text.
std::string ObjectText(const std::map<std::string, std::string>& members);

struct ModelTwin {
  uint64_t etag = 1;
  int64_t version = 1;
  int64_t desired_version = 1;
  int64_t reported_version = 1;
  Tree tags;
  Tree desired;
  Tree reported;
  bool connected = false;
  bool kept_back = false;  // A connection that does not count: disabled.
  bool enabled = true;
  // Once the registry has written it.
  bool has_identity = false;
  std::string primary_key;
  std::string secondary_key;
  std::string activity;
  std::string updated;
  std::map<std::string, std::string> roots;  // Others, as JSON text.

  // What TwinIndex::Upsert() does with a document that it accepts.  `*this` is
  // the old twin, or a default one if `is_new`.
  void Put(JsonView document, bool is_new, int second);
  // Patch(), or Replace().  Of a part: nullptr if the patch does not have it,
  // kNull if it clears the section.
  void Change(const Tree* tags_part, const Tree* desired_part, bool replace,
              int second);
  void Report(const Tree& part, int second);
  bool HasConnection() const { return connected || kept_back; }
  void SetConnected(bool value, int second);
  void SetEnabled(bool value, int second);
  // CreateIdentity() if `is_new`, else UpdateIdentity().
  void PutIdentity(const DeviceIdentity& device, bool is_new, int second);

  TwinWrite State() const;
  // The whole twin, as JsonText() writes what TwinIndex::Get() shows.
  std::string Document(absl::string_view id) const;

 private:
  void FollowStatus();
  std::string NextDeviceEtag() const;
};

}  // namespace muster

#endif  // TESTS_TWIN_MODEL_H_
