// Short ways for the tests of twins to say what they put in and what they want.
#ifndef TESTS_TWIN_TESTING_H_
#define TESTS_TWIN_TESTING_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/query/statement.h"
#include "engine/twin/match/matcher.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"

namespace muster {

// 2030-01-01T00:00:00Z and so many seconds.
inline absl::Time At(double seconds) {
  return absl::FromUnixSeconds(1'893'456'000) + absl::Seconds(seconds);
}

// The value, or a failed test and an end to it.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status();
    std::abort();
  }
  return *std::move(value);
}

inline Json Parsed(absl::string_view text) { return Must(ParseJson(text)); }

inline TwinPatch ServicePatch(absl::string_view text) {
  return Must(ParseTwinPatch(Parsed(text).view(), PatchOrigin::kService));
}
inline TwinPatch DevicePatch(absl::string_view text) {
  return Must(ParseTwinPatch(Parsed(text).view(), PatchOrigin::kDevice));
}

inline std::unique_ptr<TwinIndex> MakeIndex(
    const TwinIndex::Options& options = {}) {
  return Must(TwinIndex::Create(options));
}

inline TwinWrite Put(TwinIndex& index, absl::string_view text,
                     absl::Time now = At(0)) {
  return Must(index.Upsert(Parsed(text).view(), now));
}
// A twin with only an id.
inline TwinWrite PutId(TwinIndex& index, absl::string_view id,
                       absl::Time now = At(0)) {
  return Put(index, absl::StrCat(R"({"deviceId":")", id, R"("})"), now);
}

// What Get() shows below a path of names, as text; "" for undefined.
inline std::string Shown(const TwinIndex& index, absl::string_view id,
                         const std::vector<absl::string_view>& path = {}) {
  const TwinSnapshot snapshot = Must(index.Get(id));
  JsonView view = snapshot.document.view();
  for (const absl::string_view name : path) view = view.Find(name);
  return view.is_undefined() ? "" : JsonText(view);
}

inline Condition Where(absl::string_view text) {
  return Must(Condition::ParseJobCondition(text));
}
inline Statement Select(absl::string_view text) {
  return Must(Statement::Parse(text));
}

// Rows that satisfy the condition, over all shards.
inline int CountMatches(const TwinIndex& index, const Condition& condition) {
  int count = 0;
  Matcher matcher(condition);
  for (int i = 0; i < index.shard_count(); ++i) {
    Shard& shard = index.shard(i);
    RowBitmap rows;
    absl::ReaderMutexLock lock(&shard.mutex);
    matcher.Match(shard, &rows);
    count += rows.Count();
  }
  return count;
}

}  // namespace muster

#endif  // TESTS_TWIN_TESTING_H_
