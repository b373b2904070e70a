// Many threads on one index, over data that accuses itself: every write puts
// one number into tags and desired, so that a twin seen half-written shows two;
// tags.is names the device, so that one seen under another's name shows; and
// etags count up, so that a write that was lost shows.
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/twin/json_lines.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

constexpr int kDevices = 24;
constexpr int kRounds = 1500;

std::string Id(int n) { return absl::StrCat("device-", n); }

std::string Twin(int device, int64_t n) {
  return absl::StrCat(R"({"deviceId":")", Id(device), R"(","tags":{"n":)", n,
                      R"(,"is":")", Id(device),
                      R"("},"properties":{"desired":{"n":)", n, "}}}");
}

TwinPatch Number(int device, int64_t n) {
  return ServicePatch(Twin(device, n));
}

// Checks that a device's writes come in order and none is missing.
class OrderObserver final : public TwinObserver {
 public:
  void OnTwinChange(const TwinChange& change) override {
    // One lock for all: whatever calls from two shards at once meets here.
    absl::MutexLock lock(&mutex_);
    const std::string id(change.device_id);
    ++changes_;
    if (change.kind == TwinChange::Kind::kErased) {
      EXPECT_EQ(etags_.erase(id), 1u) << id;
      return;
    }
    const auto [it, is_new] = etags_.emplace(id, change.after.etag);
    if (is_new) {
      EXPECT_EQ(change.kind, TwinChange::Kind::kUpserted);
      EXPECT_EQ(change.after.etag, 1u);
      return;
    }
    EXPECT_EQ(change.after.etag, it->second + 1) << id;
    it->second = change.after.etag;
  }

  int64_t changes() {
    absl::MutexLock lock(&mutex_);
    return changes_;
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, uint64_t> etags_ ABSL_GUARDED_BY(mutex_);
  int64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(TwinConcurrencyTest, NobodySeesHalfAWrite) {
  OrderObserver observer;
  auto index = MakeIndex({.partition_count = 2, .observer = &observer});
  for (int i = 0; i < kDevices; ++i) Put(*index, Twin(i, 0));
  std::atomic<bool> done{false};
  std::atomic<int64_t> writes{kDevices};
  std::vector<std::thread> writers;
  for (int t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        const int device = (i * 7 + t * 5) % kDevices;
        const int64_t n = i * 2 + t;
        const auto write =
            i % 5 == 0
                ? index->Replace(Id(device), Number(device, n), "", At(i))
                : index->Patch(Id(device), Number(device, n), "", At(i));
        if (write.ok()) {
          ++writes;
        } else {
          EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kDeviceNotFound);
        }
      }
    });
  }
  // Devices go and come back, as others, in rows that were used before.
  writers.emplace_back([&] {
    for (int i = 0; i < kRounds / 2; ++i) {
      const int device = i * 3 % kDevices;
      if (index->Erase(Id(device), At(i)).ok()) ++writes;
      Put(*index, Twin(device, i));
      ++writes;
    }
  });
  std::vector<std::thread> readers;
  readers.emplace_back([&] {
    for (int i = 0; !done; ++i) {
      const auto twin = index->Get(Id(i % kDevices));
      if (!twin.ok()) continue;
      const JsonView document = twin->document.view();
      const JsonView desired = document.Find("properties").Find("desired");
      EXPECT_EQ(document.Find("tags").Find("n").int_value(),
                desired.Find("n").int_value());
      EXPECT_EQ(document.Find("version").int_value(), twin->state.version);
      // The newest stamp is the section's own.
      const JsonView metadata = desired.Find("$metadata");
      EXPECT_EQ(metadata.Find("$lastUpdated").string_value(),
                metadata.Find("n").Find("$lastUpdated").string_value());
    }
  });
  readers.emplace_back([&] {
    Matcher match_torn(Where("tags.n != properties.desired.n"));
    Matcher match_whole(Where("tags.n = properties.desired.n"));
    while (!done) {
      for (int s = 0; s < index->shard_count(); ++s) {
        Shard& shard = index->shard(s);
        RowBitmap rows;
        absl::ReaderMutexLock lock(&shard.mutex);
        match_torn.Match(shard, &rows);
        EXPECT_EQ(rows.Count(), 0);
        match_whole.Match(shard, &rows);
        EXPECT_EQ(rows.Count(), shard.size());
      }
    }
  });
  readers.emplace_back([&] {
    const Statement statement = Select(
        "SELECT deviceId, tags.is, tags.n AS t, properties.desired.n AS "
        "d FROM devices WHERE is_defined(tags.n)");
    while (!done) {
      std::string continuation;
      std::string last;
      do {
        const TwinPage page = Must(index->Query(statement, 7, continuation));
        for (const std::string& row : page.rows) {
          const Json json = Parsed(row);
          EXPECT_EQ(json.view().Find("t").int_value(),
                    json.view().Find("d").int_value());
          const std::string id(json.view().Find("deviceId").string_value());
          EXPECT_EQ(json.view().Find("is").string_value(), id);
          EXPECT_LT(last, id);
          last = id;
        }
        continuation = page.continuation;
      } while (!continuation.empty());
    }
  });
  for (std::thread& thread : writers) thread.join();
  done = true;
  for (std::thread& thread : readers) thread.join();
  EXPECT_EQ(index->size(), kDevices);
  EXPECT_EQ(observer.changes(), writes);
}

// A job goes over the rows of its cut while devices leave and others take
// their rows: no stranger is ever patched.
TEST(TwinConcurrencyTest, AJobReachesOnlyTheDevicesOfItsCut) {
  auto index = MakeIndex({.partition_count = 1});
  for (int i = 0; i < kDevices; ++i) PutId(*index, absl::StrCat("old-", i));
  Shard& shard = index->shard(0);
  uint64_t cut;
  RowBitmap rows;
  {
    absl::MutexLock lock(&shard.mutex);
    cut = shard.sequence();
    Matcher(Where("*")).Match(shard, &rows);
  }
  const RowSet targets(rows);
  std::atomic<bool> all_gone{false};
  std::thread tenants([&] {
    for (int i = 0; i < kDevices; ++i) {
      EXPECT_TRUE(index->Erase(absl::StrCat("old-", i), At(1)).ok());
      PutId(*index, absl::StrCat("new-", i));
    }
    all_gone = true;
  });
  const TwinPatch patch = ServicePatch(R"({"tags":{"reached":true}})");
  for (bool last = false; !last;) {
    last = all_gone;
    for (int rank = 0; rank < targets.size(); ++rank) {
      const int row = targets.RowAt(rank);
      absl::MutexLock lock(&shard.mutex);
      EXPECT_EQ(shard.DeviceIdAt(row, cut).substr(0, 4), "old-");
      if (!shard.IsPresent(row, cut)) continue;
      EXPECT_TRUE(shard.ApplyPatch(row, patch, At(2)).ok());
    }
  }
  tenants.join();
  EXPECT_EQ(CountMatches(*index, Where("tags.reached")), 0);
  EXPECT_EQ(index->size(), kDevices);
}

TEST(TwinConcurrencyTest, LoadsWhileOthersWrite) {
  auto index = MakeIndex({.partition_count = 2});
  for (int i = 0; i < kDevices; ++i) Put(*index, Twin(i, 0));
  std::string text;
  for (int i = 0; i < kDevices; ++i) text += Twin(i * 2, 1) + "\n";
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 0; !done; ++i) {
      const std::string id = Id(i % kDevices);
      if (i % 3 == 0) {
        (void)index->Erase(id, At(i));
      } else {
        (void)index->Upsert(Parsed(Twin(i % kDevices, i)).view(), At(i));
      }
    }
  });
  for (int i = 0; i < 300; ++i) {
    JsonLinesLoader loader(index.get(), {});
    loader.Add(text, 1);
    EXPECT_EQ(Must(loader.Commit(At(i))).twin_count, kDevices);
  }
  done = true;
  writer.join();
  // However they met, the count is that of the twins.
  EXPECT_EQ(CountMatches(*index, Where("*")), index->size());
  EXPECT_EQ(CountMatches(*index, Where("tags.n != properties.desired.n")), 0);
}

// I7: a match sees every write that was acknowledged before it began, whatever
// the columns become meanwhile: numbers grow out of 8 and 16 bits and become
// decimals, strings fill dictionaries and lose their pattern, and devices that
// come and go re-use rows.
TEST(TwinConcurrencyTest, AMatchSeesEveryAcknowledgedWrite) {
  constexpr int kWriters = 2;
  constexpr int kMine = 8;  // Devices of one writer.
  constexpr int kWrites = 4000;
  auto index = MakeIndex({.partition_count = 2});
  const auto id = [](int device) { return absl::StrCat("w", device); };
  for (int i = 0; i < kWriters * kMine; ++i) PutId(*index, id(i));
  // The last number that each device has acknowledged.
  std::vector<std::atomic<int>> acknowledged(kWriters * kMine);
  std::atomic<int> writing{kWriters};
  const auto text_of = [](int n) {
    // Of one pattern at first, then not.
    return n < kWrites / 2 ? absl::StrFormat("SN%06d", n)
                           : absl::StrCat("number ", n);
  };
  std::vector<std::thread> threads;
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      for (int n = 1; n <= kWrites; ++n) {
        const int device = w * kMine + n % kMine;
        const std::string number = n % 5 == 0 && n > kWrites / 2
                                       ? absl::StrCat(n, ".5")
                                       : absl::StrCat(n * 20);
        ASSERT_TRUE(index
                        ->PatchReported(id(device),
                                        DevicePatch(absl::StrCat(
                                            R"({"n":)", n, R"(,"v":)", number,
                                            R"(,"s":")", text_of(n), R"("})")),
                                        At(n))
                        .ok());
        acknowledged[static_cast<size_t>(device)] = n;
      }
      --writing;
    });
  }
  threads.emplace_back([&] {  // Comes and goes.
    for (int i = 0; writing > 0; ++i) {
      const std::string guest = absl::StrCat("guest", i % 40);
      Put(*index,
          absl::StrCat(R"({"deviceId":")", guest,
                       R"(","properties":{"reported":{"n":-1,"s":["x",)", i,
                       R"(],"v":"none"}}})"),
          At(i));
      if (i % 40 >= 20) {
        EXPECT_TRUE(
            index->Erase(absl::StrCat("guest", i % 40 - 20), At(i)).ok());
      }
    }
  });
  int64_t checks = 0;
  do {
    for (int device = 0; device < kWriters * kMine; ++device) {
      const int n = acknowledged[static_cast<size_t>(device)];
      if (n == 0) continue;
      const TwinLocation at = *index->Find(id(device));
      const auto selected = [&](absl::string_view condition) {
        bool found = false;
        index->Match(Where(condition), [&](int shard, const RowBitmap& rows) {
          found = found || (shard == at.shard && rows.Test(at.row));
        });
        ++checks;
        return found;
      };
      EXPECT_TRUE(selected(absl::StrCat("properties.reported.n >= ", n)));
      EXPECT_TRUE(selected(absl::StrCat(
          "is_number(properties.reported.v) AND properties.reported.$version "
          ">= 2 AND NOT properties.reported.n < ",
          n)));
      // Only the writes of this device that came later may have put another.
      const std::string text = text_of(n);
      const bool same =
          selected(absl::StrCat("properties.reported.s = '", text, "'"));
      EXPECT_TRUE(same || acknowledged[static_cast<size_t>(device)] > n ||
                  selected(absl::StrCat("properties.reported.n > ", n)))
          << text;
    }
  } while (writing > 0);
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(checks, 0);
  EXPECT_EQ(CountMatches(*index, Where("properties.reported.n > 0")),
            kWriters * kMine);
}

}  // namespace
}  // namespace muster
