// Any bytes as a shard's snapshot, behind a header that fits them.  What
// ShardSnapshot::Read() takes is a shard like any other:
//
//   bytes     written again they are the same
//   twins     each is what ParseTwin() takes; its text reads back
//   matches   conditions on what is there select what the evaluator says
//   index     takes the shard, patches and erases its rows, uses them again;
//             and what is there then can be written and read
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/match/matcher.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/shard.h"
#include "engine/twin/shard_snapshot.h"
#include "engine/twin/snapshot_header.h"
#include "engine/twin/twin_document.h"
#include "engine/twin/twin_index.h"

namespace muster {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'900'000'000);

// Rows that are looked at one by one.
constexpr size_t kRowsMax = 48;
constexpr size_t kConditionsMax = 24;

// A shard as it stands, in bytes.
std::string Written(const Shard& shard) {
  std::string bytes;
  absl::ReaderMutexLock lock(&shard.mutex);
  ShardSnapshot::Write(shard, &bytes);
  return bytes;
}

// Conditions about a member and its value.
void AddConditions(const std::string& path, JsonView value,
                   std::vector<std::string>* conditions) {
  conditions->push_back(absl::StrCat("is_defined(", path, ")"));
  if (value.is_number() || value.is_bool()) {
    const std::string text = JsonText(value);
    conditions->push_back(absl::StrCat(path, " = ", text));
    conditions->push_back(absl::StrCat(path, " >= ", text));
  } else if (value.is_string()) {
    const absl::string_view text = value.string_value();
    if (!std::all_of(text.begin(), text.end(), [](char c) {
          return absl::ascii_isprint(static_cast<unsigned char>(c)) &&
                 c != '\'' && c != '\\';
        })) {
      return;
    }
    conditions->push_back(absl::StrCat(path, " = '", text, "'"));
    conditions->push_back(absl::StrCat(path, " < '", text, "'"));
    conditions->push_back(absl::StrCat("startswith(", path, ", '",
                                       text.substr(0, text.size() / 2), "')"));
  }
}

// About every member of an object, and those inside.
void AddConditionsOf(const std::string& path, JsonView object,
                     std::vector<std::string>* conditions) {
  for (const JsonView::Member& member : object.members()) {
    if (conditions->size() >= kConditionsMax) return;
    if (!std::all_of(member.key.begin(), member.key.end(), [](char c) {
          return absl::ascii_isalpha(static_cast<unsigned char>(c));
        })) {
      continue;
    }
    const std::string inner = absl::StrCat(path, ".", member.key);
    AddConditions(inner, member.value, conditions);
    AddConditionsOf(inner, member.value, conditions);
  }
}

std::vector<std::string> ConditionsOf(JsonView twin) {
  std::vector<std::string> conditions = {
      "status = 'enabled'", "version > 3 AND NOT is_defined(tags.nothing)",
      "lastActivityTime < '2030-01-01T00:00:00Z'",
      "properties.desired.$metadata.$lastUpdatedVersion > 1",
      "cloudToDeviceMessageCount = 0 OR statusReason != 'x'"};
  const JsonView properties = twin.Find("properties");
  size_t before = conditions.size();
  AddConditionsOf("tags", twin.Find("tags"), &conditions);
  if (conditions.size() > before + 8) conditions.resize(before + 8);
  before = conditions.size();
  AddConditionsOf("properties.desired", properties.Find("desired"),
                  &conditions);
  if (conditions.size() > before + 8) conditions.resize(before + 8);
  AddConditionsOf("properties.reported", properties.Find("reported"),
                  &conditions);
  return conditions;
}

void CheckMatches(const Shard& shard, const std::vector<int>& rows,
                  const std::string& text) {
  const absl::StatusOr<Condition> condition =
      Condition::ParseJobCondition(text);
  if (!condition.ok()) return;  // A keyword as a name, or a long string.
  RowBitmap selected;
  Matcher(*condition).Match(shard, &selected);
  TwinDocument document;
  for (const int row : rows) {
    document.Reset(&shard, row);
    MUSTER_CHECK(selected.Test(row) == condition->Matches(document));
  }
}

// A twin of the shard: its document.
Json CheckTwin(const Shard& shard, int row) {
  TwinDocument twin;
  twin.Reset(&shard, row);
  const Json document = twin.Full();
  const absl::StatusOr<Json> again = ParseJson(JsonText(document.view()));
  MUSTER_CHECK(again.ok() && *again == document);
  const absl::StatusOr<ParsedTwin> parsed = ParseTwin(document.view());
  if (!parsed.ok()) {
    // Read() does not add up what stands beside the sections.
    MUSTER_CHECK(ErrorCodeOf(parsed.status()) == ErrorCode::kMessageTooLarge);
    MUSTER_CHECK(ReadTwinPatch(document.view(), PatchOrigin::kService).ok());
  }
  return document;
}

// A patch that changes what there is in any way: members go, become other
// values, objects and back.
Json PatchOf(JsonView section, int turn) {
  std::string bytes;
  JsonBuilder b(&bytes);
  b.BeginObject();
  int n = turn;
  for (const JsonView::Member& member : section.members()) {
    if (member.key[0] == '$') continue;
    b.Key(member.key);
    switch (n++ % 5) {
      case 0:
        b.Null();
        break;
      case 1:
        b.String("text");
        break;
      case 2:
        b.Int(n * 1000);
        break;
      case 3:
        b.BeginObject();
        b.Key("o");
        b.Double(1.25);
        b.EndObject();
        break;
      default:
        b.Value(member.value);
    }
  }
  b.EndObject();
  return Json::FromBytes(std::move(bytes));
}

void CheckIndex(std::unique_ptr<Shard> shard,
                const std::vector<std::string>& ids) {
  const auto index = TwinIndex::Create({.partition_count = 1}).value();
  const int64_t size = [&] {
    absl::ReaderMutexLock lock(&shard->mutex);
    return int64_t{shard->size()};
  }();
  const absl::Status restored = index->Restore(0, std::move(shard));
  if (!restored.ok()) {
    MUSTER_CHECK(restored.code() == absl::StatusCode::kAlreadyExists);
    MUSTER_CHECK(index->size() == 0);
    return;
  }
  MUSTER_CHECK(index->size() == size);
  int turn = 0;
  for (const std::string& id : ids) {
    const Json document = index->Get(id).value().document;
    const JsonView properties = document.view().Find("properties");
    TwinPatch patch;
    patch.tags = PatchOf(document.view().Find("tags"), turn++);
    patch.desired = PatchOf(properties.Find("desired"), turn++);
    patch.reported = PatchOf(properties.Find("reported"), turn++);
    // What comes may be too large.
    (void)index->Patch(id, patch, "", kNow);
    (void)index->PatchReported(id, patch, kNow);
    (void)index->SetConnected(id, turn % 2 == 0, kNow);
    (void)index->SetEnabled(id, turn % 2 == 0, kNow);
    DeviceIdentity device = index->GetIdentity(id).value();
    if (ValidateDeviceIdentity(device).ok()) {
      device.enabled = !device.enabled;
      const auto updated = index->UpdateIdentity(device, device.etag, kNow);
      MUSTER_CHECK(updated.ok() || ErrorCodeOf(updated.status()) ==
                                       ErrorCode::kMessageTooLarge);
    }
    const Json changed = index->Get(id).value().document;
    const absl::StatusOr<ParsedTwin> parsed = ParseTwin(changed.view());
    MUSTER_CHECK(parsed.ok() ||
                 ErrorCodeOf(parsed.status()) == ErrorCode::kMessageTooLarge);
    if (turn % 2 == 0) MUSTER_CHECK(index->Erase(id, kNow).ok());
  }
  // Rows are used again, and more come.
  for (int i = 0; i < 70; ++i) {
    const Json document = *ParseJson(absl::StrCat(
        R"({"deviceId":"new-)", i, R"(","tags":{"a":1,"b":{"c":"x"}},)",
        R"("properties":{"desired":{"a":[1]},"reported":{"r":2}}})"));
    MUSTER_CHECK(index->Upsert(document.view(), kNow).ok());
  }
  for (int i = 0; i < index->shard_count(); ++i) {
    const auto copy = ShardSnapshot::Read(Written(index->shard(i)));
    MUSTER_CHECK(copy.ok());
  }
  for (const std::string& device : ids) (void)index->Erase(device, kNow);
}

void Fuzz(absl::string_view payload) {
  const std::string bytes =
      absl::StrCat(SnapshotHeader::For(payload).Bytes(), payload);
  absl::StatusOr<std::unique_ptr<Shard>> read = ShardSnapshot::Read(bytes);
  if (!read.ok()) {
    MUSTER_CHECK(read.status().code() == absl::StatusCode::kDataLoss);
    return;
  }
  MUSTER_CHECK(Written(**read) == bytes);
  const Shard& shard = **read;
  std::vector<std::string> ids;
  // Whether counters end just beyond what Read() takes.
  bool can_count = true;
  {
    absl::ReaderMutexLock lock(&shard.mutex);
    std::vector<int> rows;
    shard.rows_in_use().ForEach([&](int row) { rows.push_back(row); });
    if (rows.size() > kRowsMax) rows.resize(kRowsMax);
    can_count = shard.sequence() < uint64_t{1} << 62;
    Json last;
    for (const int row : rows) {
      ids.push_back(std::string(shard.DeviceId(row)));
      can_count = can_count && shard.StateOf(row).etag < uint64_t{1} << 62;
      last = CheckTwin(shard, row);
    }
    if (!rows.empty()) {
      for (const std::string& text : ConditionsOf(last.view())) {
        CheckMatches(shard, rows, text);
      }
    }
  }
  if (can_count) CheckIndex(*std::move(read), ids);
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::Fuzz(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
