#include "tests/simulator/twin_states.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/twin/etag.h"

namespace muster::simulator {
namespace {

// Fills `*section`; returns how many members are those of jobs.
int64_t ReadSection(JsonView value, TwinState::Section* section) {
  int64_t of_jobs = 0;
  for (const JsonView::Member& member : value.members()) {
    if (absl::StartsWith(member.key, "$")) continue;
    if (absl::StartsWith(member.key, "job")) {
      ++of_jobs;
      continue;
    }
    (*section)[std::string(member.key)] =
        member.value.is_integer() ? member.value.int_value() : -1;
  }
  return of_jobs;
}

int64_t IntOr(JsonView value, int64_t otherwise) {
  return value.is_integer() ? value.int_value() : otherwise;
}

void Merge(const TwinState::Section& patch, TwinState::Section* section) {
  for (const auto& [key, value] : patch) {
    if (value == TwinWriteModel::kNull) {
      section->erase(key);
    } else {
      (*section)[key] = value;
    }
  }
}

std::string SectionText(const TwinState::Section& section) {
  std::string out = "{";
  for (const auto& [key, value] : section) {
    absl::StrAppend(&out, out.size() > 1 ? "," : "", "\"", key, "\":");
    if (value == TwinWriteModel::kNull) {
      out += "null";
    } else {
      absl::StrAppend(&out, value);
    }
  }
  return out + "}";
}

bool SameOrAny(int64_t a, int64_t b) {
  return a == b || a == TwinState::kAny || b == TwinState::kAny;
}

std::string KeyOf(int64_t number) {
  return absl::Base64Escape(absl::StrFormat("%016d", number));
}

int64_t NumberOf(absl::string_view key) {
  std::string text;
  int64_t number = 0;
  if (key.empty()) return 0;
  return absl::Base64Unescape(key, &text) && absl::SimpleAtoi(text, &number)
             ? number
             : -1;
}

void Next(int64_t* version) {
  if (*version != TwinState::kAny) ++*version;
}

}  // namespace

TwinState TwinState::Of(JsonView document, absl::string_view primary_key) {
  TwinState state;
  if (!document.is_object()) return state;
  state.present = true;
  state.enabled = document.Find("status").is_string() &&
                  document.Find("status").string_value() == "enabled";
  state.keys = NumberOf(primary_key);
  if (const JsonView etag = document.Find("deviceEtag"); etag.is_string()) {
    state.device_etag = ParseEtag(etag.string_value()).value_or(0);
  }
  const JsonView desired = document.Find("properties").Find("desired");
  const JsonView reported = document.Find("properties").Find("reported");
  const int64_t tags_of_jobs = ReadSection(document.Find("tags"), &state.tags);
  const int64_t desired_of_jobs = ReadSection(desired, &state.desired);
  ReadSection(reported, &state.reported);
  state.version =
      IntOr(document.Find("version"), 0) - tags_of_jobs - desired_of_jobs;
  state.desired_version = IntOr(desired.Find("$version"), 0) - desired_of_jobs;
  state.reported_version = IntOr(reported.Find("$version"), 0);
  return state;
}

bool TwinState::Agrees(const TwinState& seen) const {
  if (!present || !seen.present) return present == seen.present;
  return enabled == seen.enabled && keys == seen.keys &&
         device_etag == seen.device_etag && tags == seen.tags &&
         desired == seen.desired && reported == seen.reported &&
         SameOrAny(version, seen.version) &&
         SameOrAny(desired_version, seen.desired_version) &&
         SameOrAny(reported_version, seen.reported_version);
}

std::string TwinState::Text() const {
  if (!present) return "(none)";
  return absl::StrCat(enabled ? "" : "disabled ", "tags ", SectionText(tags),
                      " desired ", SectionText(desired), " reported ",
                      SectionText(reported), " versions ", version, "/",
                      desired_version, "/", reported_version, " keys ", keys,
                      " etag ", device_etag);
}

TwinState TwinWriteModel::Apply(const TwinState& state) const {
  TwinState next = state;
  switch (kind) {
    case kUpsert:
      next = TwinState();
      next.present = true;
      next.enabled = enabled;
      if (state.keys != 0) {
        // The registry's, whatever a document says.
        next.enabled = state.enabled;
        next.keys = state.keys;
        next.device_etag = state.device_etag;
      }
      Merge(tags, &next.tags);
      Merge(desired, &next.desired);
      Merge(reported, &next.reported);
      if (!state.present) {
        next.version = next.desired_version = next.reported_version = 1;
      }
      return next;
    case kErase:
      return TwinState();
    case kPatch:
      if (!state.present) return state;
      if (has_tags) Merge(tags, &next.tags);
      if (has_desired) Merge(desired, &next.desired);
      if (has_tags || has_desired) Next(&next.version);
      if (has_desired) Next(&next.desired_version);
      return next;
    case kReplace:
      if (!state.present) return state;
      if (has_tags) {
        next.tags.clear();
        Merge(tags, &next.tags);
      }
      if (has_desired) {
        next.desired.clear();
        Merge(desired, &next.desired);
      }
      // What jobs have written has gone, and nobody counted it.
      next.version = next.desired_version = TwinState::kAny;
      return next;
    case kReport:
      if (!state.present) return state;
      Merge(reported, &next.reported);
      Next(&next.reported_version);
      return next;
    case kEnable:
    case kDisable:
      next.enabled = kind == kEnable;
      if (state.keys != 0 && next.enabled != state.enabled) ++next.device_etag;
      return next;
    case kCreateDevice:
      if (state.present) return state;
      next.present = true;
      next.enabled = enabled;
      next.keys = keys;
      next.device_etag = 1;
      next.version = next.desired_version = next.reported_version = 1;
      return next;
    case kUpdateDevice:
      if (!state.present) return state;
      next.enabled = enabled;
      next.keys = keys;
      // Where there is none it counts as 1.
      next.device_etag = std::max<uint64_t>(state.device_etag, 1) + 1;
      return next;
  }
  return next;
}

std::string TwinWriteModel::Document(const std::string& device) const {
  switch (kind) {
    case kUpsert:
      return absl::StrCat("{\"deviceId\":\"", device, "\",\"status\":\"",
                          enabled ? "enabled" : "disabled",
                          "\",\"tags\":", SectionText(tags),
                          ",\"properties\":{\"desired\":", SectionText(desired),
                          ",\"reported\":", SectionText(reported), "}}");
    case kPatch:
    case kReplace: {
      std::string out = "{";
      if (has_tags) absl::StrAppend(&out, "\"tags\":", SectionText(tags));
      if (has_desired) {
        absl::StrAppend(&out, has_tags ? "," : "",
                        "\"properties\":{\"desired\":", SectionText(desired),
                        "}");
      }
      return out + "}";
    }
    case kReport:
      return SectionText(reported);
    case kErase:
      return "erase";
    case kEnable:
      return "enable";
    case kDisable:
      return "disable";
    case kCreateDevice:
    case kUpdateDevice:
      return absl::StrCat(kind == kCreateDevice ? "create" : "update",
                          " device, keys ", keys, enabled ? "" : ", disabled");
  }
  return "";
}

DeviceIdentity TwinWriteModel::Identity(const std::string& device) const {
  DeviceIdentity identity;
  identity.device_id = device;
  identity.enabled = enabled;
  identity.primary_key = KeyOf(keys);
  identity.secondary_key = KeyOf(keys + 1);
  return identity;
}

void TwinStates::Add(const TwinState& state, std::vector<TwinState>* to) {
  if (std::find(to->begin(), to->end(), state) == to->end()) {
    to->push_back(state);
  }
}

void TwinStates::Acknowledged(const TwinWriteModel& write) {
  std::vector<TwinState> next;
  for (const TwinState& state : shown_) Add(write.Apply(state), &next);
  shown_ = std::move(next);
  durable_ = shown_;
  settled_ = true;
}

void TwinStates::Unknown(const TwinWriteModel& write) {
  settled_ = false;
  for (const TwinState& state : std::vector<TwinState>(shown_)) {
    const TwinState next = write.Apply(state);
    Add(next, &shown_);
    Add(next, &durable_);
  }
}

std::string TwinStates::Read(const TwinState& seen) {
  const auto disagrees = [&seen](const TwinState& state) {
    return !state.Agrees(seen);
  };
  std::vector<TwinState> left = shown_;
  left.erase(std::remove_if(left.begin(), left.end(), disagrees), left.end());
  if (left.empty()) {
    std::string out = absl::StrCat("reads ", seen.Text(), "; possible:");
    for (const TwinState& state : shown_) {
      absl::StrAppend(&out, " [", state.Text(), "]");
    }
    return out;
  }
  shown_ = {seen};
  if (settled_) durable_ = shown_;
  return "";
}

bool TwinStates::All(
    const std::function<bool(const TwinState&)>& condition) const {
  return std::all_of(shown_.begin(), shown_.end(), condition);
}

bool TwinStates::Any(
    const std::function<bool(const TwinState&)>& condition) const {
  return std::any_of(shown_.begin(), shown_.end(), condition);
}

}  // namespace muster::simulator
