#include "engine/twin/stamps.h"

#include <cstring>

#include "engine/model/check.h"
#include "engine/model/instant.h"

namespace muster {
namespace {

constexpr uint8_t kOwnStamp = 1;
constexpr uint8_t kHasChildren = 2;

void AppendVarint(uint64_t v, std::string* out) {
  while (v >= 0x80) {
    out->push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out->push_back(static_cast<char>(v));
}

uint64_t ReadVarint(const char** p) {
  uint64_t v = 0;
  for (int shift = 0;; shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(*(*p)++);
    v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return v;
  }
}

void AppendKey(absl::string_view key, std::string* out) {
  AppendVarint(key.size(), out);
  out->append(key.data(), key.size());
}

void AppendHead(Stamp stamp, Stamp parent, bool has_children,
                std::string* out) {
  const bool own = !(stamp == parent);
  out->push_back(static_cast<char>((own ? kOwnStamp : 0) |
                                   (has_children ? kHasChildren : 0)));
  if (!own) return;
  char bytes[sizeof(stamp.ticks)];
  std::memcpy(bytes, &stamp.ticks, sizeof(bytes));
  out->append(bytes, sizeof(bytes));
  AppendVarint(static_cast<uint64_t>(stamp.version), out);
}

// A node of an overlay.
struct Node {
  const char* children = nullptr;  // Null: none.
  const char* end = nullptr;       // Behind the head, if there are none.
  Stamp stamp;
};

Node ReadNode(const char* p, Stamp parent) {
  Node node;
  const uint8_t head = static_cast<uint8_t>(*p++);
  node.stamp = parent;
  if (head & kOwnStamp) {
    std::memcpy(&node.stamp.ticks, p, sizeof(node.stamp.ticks));
    p += sizeof(node.stamp.ticks);
    node.stamp.version = static_cast<int64_t>(ReadVarint(&p));
  }
  if (head & kHasChildren) {
    node.children = p;
  } else {
    node.end = p;
  }
  return node;
}

// The byte behind the node at `p`.
const char* SkipNode(const char* p) {
  const Node node = ReadNode(p, Stamp());
  if (node.children == nullptr) return node.end;
  p = node.children;
  while (const uint64_t size = ReadVarint(&p)) p = SkipNode(p + size);
  return p;
}

// Walks the children of a node, which may have none.
class Children {
 public:
  explicit Children(const Node& node) : next_(node.children), parent_(node) {
    Advance();
  }
  bool done() const { return done_; }
  absl::string_view key() const { return key_; }
  Node node() const { return ReadNode(at_, parent_.stamp); }
  void Advance() {
    const uint64_t size = next_ == nullptr ? 0 : ReadVarint(&next_);
    done_ = size == 0;
    if (done_) return;
    key_ = absl::string_view(next_, size);
    at_ = next_ + size;
    next_ = SkipNode(at_);
  }
  // The child's bytes behind its head: its children and their end.
  absl::string_view inside() const {
    const Node child = node();
    return child.children == nullptr
               ? absl::string_view()
               : absl::string_view(child.children, next_ - child.children);
  }

 private:
  const char* next_;
  const Node parent_;
  const char* at_ = nullptr;
  absl::string_view key_;
  bool done_ = false;
};

// Writes a node for a value that is new with all that is in it.
void WriteFresh(JsonView value, Stamp stamp, Stamp parent, std::string* out) {
  bool any = false;
  for (const JsonView::Member& member : value.members()) {
    any = any || !member.value.is_null();
  }
  AppendHead(stamp, parent, any, out);
  if (!any) return;
  for (const JsonView::Member& member : value.members()) {
    if (member.value.is_null()) continue;
    AppendKey(member.key, out);
    WriteFresh(member.value, stamp, stamp, out);
  }
  out->push_back('\0');
}

// Writes the node of an object that an object was merged into.
void WriteMerged(const Node& old, JsonView section, JsonView patch, Stamp stamp,
                 Stamp parent, std::string* out) {
  const size_t head = out->size();
  AppendHead(stamp, parent, /*has_children=*/true, out);
  bool any = false;
  const auto patch_members = patch.members();
  auto p = patch_members.begin();
  Children c(old);
  while (!c.done() || p != patch_members.end()) {
    const int order = c.done()                     ? 1
                      : p == patch_members.end() ? -1
                                                 : c.key().compare(p->key);
    if (order < 0) {
      // Not named: keeps its stamp, which was perhaps its old parent's.
      any = true;
      AppendKey(c.key(), out);
      const Node child = c.node();
      AppendHead(child.stamp, stamp, child.children != nullptr, out);
      const absl::string_view inside = c.inside();
      out->append(inside.data(), inside.size());
    } else if (!p->value.is_null()) {
      any = true;
      AppendKey(p->key, out);
      const JsonView before = section.Find(p->key);
      if (p->value.is_object() && before.is_object()) {
        WriteMerged(order == 0 ? c.node() : Node(), before, p->value, stamp,
                    stamp, out);
      } else {
        WriteFresh(p->value, stamp, stamp, out);
      }
    }
    if (order <= 0) c.Advance();
    if (order >= 0) ++p;
  }
  if (any) {
    out->push_back('\0');
  } else {
    (*out)[head] = static_cast<char>((*out)[head] & ~kHasChildren);
  }
}

class MetadataWriter {
 public:
  explicit MetadataWriter(std::string* out) : builder_(out) {}

  // `node` may be null: nothing here was touched since the base stamp.
  void Write(JsonView value, Stamp base, const Node* node, bool is_section) {
    builder_.BeginObject();
    const Stamp stamp = node == nullptr ? base : node->stamp;
    bool stamped = false;
    Children c(node == nullptr ? Node() : *node);
    for (const JsonView::Member& member : value.members()) {
      if (is_section && member.key[0] == '$') continue;
      if (!stamped && member.key > "$lastUpdated") {
        WriteStamp(stamp);
        stamped = true;
      }
      builder_.Key(member.key);
      const bool touched = !c.done() && c.key() == member.key;
      const Node child = touched ? c.node() : Node();
      Write(member.value, base, touched ? &child : nullptr, false);
      if (touched) c.Advance();
    }
    // Each touched node is there.
    MUSTER_DCHECK(c.done());
    if (!stamped) WriteStamp(stamp);
    builder_.EndObject();
  }

 private:
  void WriteStamp(Stamp stamp) {
    if (text_.empty() || ticks_ != stamp.ticks) {
      ticks_ = stamp.ticks;
      text_ = FormatInstant(TimeFromTicks(stamp.ticks));
    }
    builder_.Key("$lastUpdated");
    builder_.String(text_);
    if (stamp.version == 0) return;
    builder_.Key("$lastUpdatedVersion");
    builder_.Int(stamp.version);
  }

  JsonBuilder builder_;
  // The last instant written: neighbours mostly have the same.
  int64_t ticks_ = 0;
  std::string text_;
};

constexpr absl::Duration kTick = absl::Nanoseconds(100);

}  // namespace

int64_t TicksFromTime(absl::Time time) {
  absl::Duration rest;
  return absl::IDivDuration(absl::Floor(time - absl::UnixEpoch(), kTick), kTick,
                            &rest);
}

absl::Time TimeFromTicks(int64_t ticks) {
  return absl::UnixEpoch() + ticks * kTick;
}

std::string MergeStamps(absl::string_view overlay, JsonView section,
                        JsonView patch, Stamp stamp) {
  MUSTER_DCHECK(section.is_object() && patch.is_object());
  std::string out;
  const Node old =
      overlay.empty() ? Node() : ReadNode(overlay.data(), Stamp());
  // Nobody's child: a parent that no stamp equals makes it write its own.
  const Stamp nobody{stamp.ticks, -1};
  WriteMerged(old, section, patch, stamp, nobody, &out);
  return out;
}

Json MetadataJson(Stamp base, absl::string_view overlay, JsonView section) {
  std::string bytes;
  MetadataWriter writer(&bytes);
  const Node node =
      overlay.empty() ? Node() : ReadNode(overlay.data(), Stamp());
  writer.Write(section, base, overlay.empty() ? nullptr : &node,
               /*is_section=*/true);
  return Json::FromBytes(std::move(bytes));
}

}  // namespace muster
