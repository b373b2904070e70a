// Any bytes as a small fleet and conditions over it: what the index selects is
// what the reference evaluator says of the same documents.
//
// The input has one of two forms:
//
//   text    begins with `{`.  Lines that begin with `{` are twins (one without
//           deviceId gets one) or, once there are twins, `{"report": id, ...}`
//           patches of reported; every other line is a condition.
//   bytes   anything else: decisions for the generators of
//           twin_differential_test, which draw twins, writes and conditions.
//
// The first is for people, and what they want to see kept; the second is where
// the fuzzer finds things.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/twin_index.h"
#include "tests/choices.h"
#include "tests/random_conditions.h"
#include "tests/random_twins.h"
#include "tests/twin_model.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

constexpr int kTwinsMax = 40;

// The plan under test.  One partition and few twins: there is one shard.
RowBitmap MatchShard(const TwinIndex& index, const Condition& condition) {
  RowBitmap rows;
  if (index.shard_count() == 0) return rows;
  MUSTER_CHECK(index.shard_count() == 1);
  Shard& shard = index.shard(0);
  absl::ReaderMutexLock lock(&shard.mutex);
  Matcher(condition).Match(shard, &rows);
  return rows;
}

class Fleet {
 public:
  Fleet() : index_(MakeIndex({.partition_count = 1})) {}

  TwinIndex& index() { return *index_; }
  size_t size() const { return documents_.size(); }
  const std::map<std::string, JsonDocument>& documents() const {
    return documents_;
  }

  // After a write, what the index has of the device.
  void Read(const std::string& id) {
    documents_.erase(id);
    absl::StatusOr<TwinSnapshot> snapshot = index_->Get(id);
    if (snapshot.ok()) {
      documents_.emplace(id, JsonDocument(std::move(snapshot->document)));
    }
  }

  void Check(const Condition& condition) const {
    const RowBitmap rows = MatchShard(*index_, condition);
    int count = 0;
    for (const auto& [id, document] : documents_) {
      const bool expected = condition.Matches(document);
      count += expected;
      if (rows.Test(index_->Find(id)->row) == expected) continue;
      absl::FPrintF(stderr, "%s\nof\n%s\nis %s\n", condition.text(),
                    JsonText(document.Full().view()),
                    expected ? "true" : "not true");
      MUSTER_CHECK(false && "the index and the reference evaluator differ");
    }
    MUSTER_CHECK(rows.Count() == count);
  }

 private:
  const std::unique_ptr<TwinIndex> index_;
  std::map<std::string, JsonDocument> documents_;
};

// ------------------------------------------------------------------- text

std::string StringOf(JsonView value) {
  return value.is_string() ? std::string(value.string_value()) : "";
}

// The object with one member more, or with that member left out.
Json With(JsonView object, absl::string_view key, absl::string_view value) {
  std::map<std::string, std::string> members;
  for (const JsonView::Member& member : object.members()) {
    members[std::string(member.key)] = JsonText(member.value);
  }
  if (value.empty()) {
    members.erase(std::string(key));
  } else {
    members.try_emplace(std::string(key), absl::StrCat("\"", value, "\""));
  }
  return Parsed(ObjectText(members));
}

void FuzzText(absl::string_view input) {
  Fleet fleet;
  int lines = 0;
  for (const absl::string_view line : absl::StrSplit(input, '\n')) {
    if (++lines > 200) break;
    if (!absl::StartsWith(line, "{")) {
      const auto condition = Condition::ParseJobCondition(line);
      if (condition.ok()) fleet.Check(*condition);
      continue;
    }
    absl::StatusOr<Json> json = ParseJson(line);
    if (!json.ok()) continue;
    const std::string reporter = StringOf(json->view().Find("report"));
    if (!reporter.empty()) {
      const Json report = With(json->view(), "report", "");
      const auto patch = ParseTwinPatch(report.view(), PatchOrigin::kDevice);
      if (!patch.ok()) continue;
      (void)fleet.index().PatchReported(reporter, *patch, At(lines));
      fleet.Read(reporter);
    } else if (fleet.size() < kTwinsMax) {
      const Json twin =
          With(json->view(), "deviceId", absl::StrCat("d", lines));
      (void)fleet.index().Upsert(twin.view(), At(lines));
      fleet.Read(StringOf(twin.view().Find("deviceId")));
    }
  }
}

// ------------------------------------------------------------------ bytes

class RandomFleet {
 public:
  explicit RandomFleet(Choices* choices)
      : choices_(*choices), shape_(choices, 1 + choices->IntBelow(12)) {}

  void Run() {
    for (int rounds = 1 + choices_.IntBelow(3); rounds > 0; --rounds) {
      for (int writes = 1 + choices_.IntBelow(16); writes > 0; --writes) {
        Write();
      }
      if (fleet_.size() == 0) continue;
      ConditionGenerator conditions(&choices_);
      for (const auto& [id, document] : fleet_.documents()) {
        conditions.Observe(document.Full());
      }
      for (int i = 1 + choices_.IntBelow(6); i > 0; --i) {
        fleet_.Check(conditions.Next());
        if (!choices_.has_bytes()) return;
      }
    }
  }

 private:
  void Write() {
    const std::string id = shape_.DeviceId(choices_.Below(kTwinsMax));
    const auto found = models_.find(id);
    ++second_;
    if (found == models_.end() || choices_.OneIn(8)) {
      const Json twin = Parsed(shape_.Twin(id, &choices_));
      MUSTER_CHECK(fleet_.index().Upsert(twin.view(), At(second_)).ok());
      const bool is_new = found == models_.end();
      models_[id].Put(twin.view(), is_new, second_);
    } else if (choices_.OneIn(6)) {
      MUSTER_CHECK(fleet_.index().Erase(id, At(second_)).ok());
      models_.erase(found);
    } else {
      const Json report = Parsed(shape_.ReportedPatch(&choices_));
      const auto patch = ParseTwinPatch(report.view(), PatchOrigin::kDevice);
      MUSTER_CHECK(
          fleet_.index().PatchReported(id, patch.value(), At(second_)).ok());
      found->second.Report(TreeOf(report.view()), second_);
    }
    fleet_.Read(id);
    // What the index shows is what was written.
    const auto document = fleet_.documents().find(id);
    const auto model = models_.find(id);
    MUSTER_CHECK((document == fleet_.documents().end()) ==
                 (model == models_.end()));
    if (model == models_.end()) return;
    MUSTER_CHECK(JsonText(document->second.Full().view()) ==
                 model->second.Document(id));
  }

  Choices& choices_;
  const TwinShape shape_;
  Fleet fleet_;
  std::map<std::string, ModelTwin> models_;
  int second_ = 0;
};

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  if (absl::StartsWith(input, "{")) {
    muster::FuzzText(input);
  } else {
    muster::Choices choices(input);
    muster::RandomFleet(&choices).Run();
  }
  return 0;
}
