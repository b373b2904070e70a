// Shards as bytes: what comes back is the shard that went in, and bytes that
// are no shard do no harm.
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/identity.h"
#include "engine/twin/shard_snapshot.h"
#include "engine/twin/twin_document.h"
#include "engine/twin/twin_index.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/random_twins.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

std::string Written(const TwinIndex& index, int shard) {
  std::string bytes;
  absl::ReaderMutexLock lock(&index.shard(shard).mutex);
  ShardSnapshot::Write(index.shard(shard), &bytes);
  return bytes;
}

std::unique_ptr<TwinIndex> Copied(const TwinIndex& index) {
  auto copy = MakeIndex({.partition_count = index.partition_count()});
  for (int i = 0; i < index.shard_count(); ++i) {
    auto shard = Must(ShardSnapshot::Read(Written(index, i)));
    const absl::Status status =
        copy->Restore(index.shard(i).partition(), std::move(shard));
    EXPECT_TRUE(status.ok()) << status;
  }
  return copy;
}

// The registry makes the device, or changes it.
void PutIdentity(TwinIndex& index, const std::string& id, Choices* choices,
                 int second) {
  DeviceIdentity device;
  device.device_id = id;
  device.enabled = choices->Below(2) == 0;
  device.primary_key = absl::Base64Escape(
      absl::StrFormat("primary key %04d", choices->Below(300)));
  device.secondary_key = absl::Base64Escape(
      absl::StrFormat("secondary key %d", 10 + choices->Below(3)));
  device.iot_edge = choices->Below(2) == 0;
  if (choices->Below(2) == 0) device.status_reason = "moved";
  const absl::StatusOr<DeviceIdentity> put =
      index.Find(id).has_value() ? index.UpdateIdentity(device, "", At(second))
                                 : index.CreateIdentity(device, At(second));
  EXPECT_TRUE(put.ok()) << put.status();
}

// One random write; the same for the same choices.
void Write(TwinIndex& index, const TwinShape& shape, Choices* choices,
           int second) {
  const std::string id = shape.DeviceId(choices->Below(300));
  switch (choices->Below(10)) {
    case 0:
    case 1:
    case 2:
      Put(index, shape.Twin(id, choices), At(second));
      return;
    case 3:
      (void)index.Patch(id, ServicePatch(shape.ServicePatch(choices)), "",
                        At(second));
      return;
    case 4:
      (void)index.Replace(id, ServicePatch(shape.ServicePatch(choices)), "",
                          At(second));
      return;
    case 5:
      (void)index.PatchReported(id, DevicePatch(shape.ReportedPatch(choices)),
                                At(second));
      return;
    case 6:
      (void)index.Erase(id, At(second));
      return;
    case 7:
      PutIdentity(index, id, choices, second);
      return;
    case 8:
      (void)index.SetEnabled(id, choices->Below(2) == 0, At(second));
      return;
    default:
      (void)index.SetConnected(id, choices->Below(2) == 0, At(second));
  }
}

void ExpectSame(const TwinIndex& a, const TwinIndex& b) {
  ASSERT_EQ(a.size(), b.size());
  ASSERT_EQ(a.shard_count(), b.shard_count());
  TwinDocument of_a;
  TwinDocument of_b;
  for (int i = 0; i < a.shard_count(); ++i) {
    absl::ReaderMutexLock lock_a(&a.shard(i).mutex);
    absl::ReaderMutexLock lock_b(&b.shard(i).mutex);
    ASSERT_EQ(a.shard(i).sequence(), b.shard(i).sequence());
    ASSERT_EQ(a.shard(i).rows_in_use().words, b.shard(i).rows_in_use().words);
    for (int row = 0; row < a.shard(i).row_count(); ++row) {
      if (!a.shard(i).rows_in_use().Test(row)) continue;
      of_a.Reset(&a.shard(i), row);
      of_b.Reset(&b.shard(i), row);
      ASSERT_EQ(JsonText(of_a.Full().view()), JsonText(of_b.Full().view()));
      ASSERT_EQ(a.shard(i).StateOf(row), b.shard(i).StateOf(row));
      // The time of a connection is in memory only.
      DeviceIdentity device = a.shard(i).IdentityOf(row);
      device.connection_state_updated_time =
          b.shard(i).IdentityOf(row).connection_state_updated_time;
      ASSERT_EQ(device, b.shard(i).IdentityOf(row));
    }
  }
}

// A copy answers as the original does, and goes on as it goes on.
TEST(ShardSnapshotTest, CopiesLiveOn) {
  const uint64_t first_seed = std::random_device()();
  for (uint64_t seed = first_seed; seed < first_seed + 12; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Choices choices(seed);
    const TwinShape shape(&choices, 1 + static_cast<int>(choices.Below(40)));
    auto index = MakeIndex({.partition_count = 1});
    for (int i = 0; i < 800; ++i) Write(*index, shape, &choices, i);
    auto copy = Copied(*index);
    ExpectSame(*index, *copy);
    Choices one(seed + 1);
    Choices other(seed + 1);
    for (int i = 0; i < 400; ++i) {
      Write(*index, shape, &one, 800 + i);
      Write(*copy, shape, &other, 800 + i);
    }
    ExpectSame(*index, *copy);
    if (HasFatalFailure()) return;
  }
}

TEST(ShardSnapshotTest, FormerTenantsAreKnown) {
  auto index = MakeIndex({.partition_count = 1});
  PutId(*index, "a");
  PutId(*index, "b");
  ASSERT_TRUE(index->Erase("a", At(1)).ok());
  PutId(*index, "c");
  auto copy = Copied(*index);
  Shard& shard = copy->shard(0);
  absl::MutexLock lock(&shard.mutex);
  EXPECT_EQ(shard.DeviceIdAt(0, 2), "a");
  EXPECT_FALSE(shard.IsPresent(0, 2));
  EXPECT_EQ(shard.DeviceIdAt(0, shard.sequence()), "c");
}

// Dictionaries clean up as they did before, however full they were.
TEST(ShardSnapshotTest, ADictionaryOfManyFormerValuesGoesOn) {
  auto index = MakeIndex({.partition_count = 1});
  int n = 0;
  const auto tags = [&n] { return absl::StrCat(R"({"k":"v)", ++n, R"(.x"})"); };
  for (int i = 0; i < kShardRowsMax; ++i) {
    Put(*index,
        absl::StrCat(R"({"deviceId":"d)", i, R"(","tags":)", tags(), "}"));
  }
  const auto patch = [&](TwinIndex& to, int i) {
    const std::string text = absl::StrCat(R"({"tags":)", tags(), "}");
    ASSERT_TRUE(
        to.Patch(absl::StrCat("d", i), ServicePatch(text), "", At(1)).ok());
  };
  // Nearly as many as there may be before it is cleaned up.
  for (int i = 0; i < 16'300; ++i) patch(*index, i);
  auto copy = Copied(*index);
  for (int i = 0; i < 33'000; ++i) patch(*copy, i % kShardRowsMax);
  EXPECT_EQ(copy->size(), kShardRowsMax);
}

TEST(ShardSnapshotTest, RefusesWhatIsNoSnapshot) {
  auto index = MakeIndex({.partition_count = 1});
  Put(*index, R"({"deviceId":"a","tags":{"x":[1,"y"],"z":2.5}})");
  const std::string bytes = Written(*index, 0);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(ShardSnapshot::Read(bytes.substr(0, size)).status().code(),
              absl::StatusCode::kDataLoss);
  }
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    const absl::Status status = ShardSnapshot::Read(changed).status();
    EXPECT_EQ(status.code(), at >= 4 && at < 8
                                 ? absl::StatusCode::kFailedPrecondition
                                 : absl::StatusCode::kDataLoss)
        << at;
  }
  std::string longer = bytes + "x";
  EXPECT_THAT(ShardSnapshot::Read(longer).status().message(),
              HasSubstr("byte 8"));
  longer = bytes;
  longer[4] = 9;
  EXPECT_THAT(ShardSnapshot::Read(longer).status().message(),
              HasSubstr("version 9"));
}

// Written by the version before, in which no registry wrote.
TEST(ShardSnapshotTest, ReadsVersion2) {
  auto index = MakeIndex({.partition_count = 1});
  Put(*index, R"({"deviceId":"a","tags":{"x":1},"statusReason":"r"})");
  std::string bytes = Written(*index, 0);
  ASSERT_EQ(bytes[4], 3);
  bytes[4] = 2;
  auto copy = MakeIndex({.partition_count = 1});
  ASSERT_TRUE(copy->Restore(0, Must(ShardSnapshot::Read(bytes))).ok());
  ExpectSame(*index, *copy);
  bytes[4] = 1;
  EXPECT_THAT(ShardSnapshot::Read(bytes).status().message(),
              HasSubstr("has version 1; this program reads versions 2 to 3"));
}

TEST(ShardSnapshotTest, RestoreRefusesDevicesThatAreThere) {
  auto index = MakeIndex({.partition_count = 1});
  PutId(*index, "a");
  PutId(*index, "b");
  const std::string bytes = Written(*index, 0);
  EXPECT_EQ(index->Restore(0, Must(ShardSnapshot::Read(bytes))).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(index->size(), 2);
  auto other = MakeIndex({.partition_count = 256});
  EXPECT_EQ(other->Restore(0, Must(ShardSnapshot::Read(bytes))).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(other->size(), 0);
  // What was there once has room again; others have not.
  auto small = MakeIndex({.partition_count = 1, .twin_count_max = 1});
  EXPECT_TRUE(small->Restore(0, Must(ShardSnapshot::Read(bytes))).ok());
  EXPECT_EQ(small->size(), 2);
  EXPECT_EQ(small->Upsert(ParseJson(R"({"deviceId":"c"})")->view(), At(1))
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace muster
