#include "engine/dispatch/twin_journal.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/journal/record.h"
#include "engine/twin/shard_snapshot.h"

namespace muster {
namespace {

std::string TextOrEmpty(const Json& json) {
  return json.is_undefined() ? "" : JsonText(json.view());
}

}  // namespace

void TwinJournal::OnTwinChange(const TwinChange& change) {
  using Kind = TwinChange::Kind;
  Shard& shard = index_->shard(change.shard);
  shard.mutex.AssertHeld();  // TwinObserver's promise.
  const uint32_t number = static_cast<uint32_t>(shard.number());
  const uint16_t row = static_cast<uint16_t>(change.row);
  switch (change.kind) {
    case Kind::kUpserted:
      commit_->Add(change.partition, [&](std::string* out) {
        AppendRecord(TwinWrittenRecord{number, row, change.sequence,
                                       JsonText(change.document), change.time},
                     out);
      });
      // It may be enabled, or connected, where it was not.
      dispatcher_->OnRowChanged(shard, change.row);
      return;

    case Kind::kIdentity:
      commit_->Add(change.partition, [&](std::string* out) {
        AppendRecord(
            IdentityWrittenRecord{number, row, change.sequence,
                                  JsonText(change.document), change.time},
            out);
      });
      // It may be enabled where it was not.
      dispatcher_->OnRowChanged(shard, change.row);
      return;

    case Kind::kPatched:
    case Kind::kReplaced:
    case Kind::kReported: {
      TwinPatchedRecord record;
      record.shard = number;
      record.row = row;
      record.sequence = change.sequence;
      record.kind = change.kind == Kind::kPatched ? TwinPatchedRecord::kMerged
                    : change.kind == Kind::kReplaced
                        ? TwinPatchedRecord::kReplaced
                        : TwinPatchedRecord::kReported;
      record.tags = TextOrEmpty(change.patch->tags);
      record.desired = TextOrEmpty(change.patch->desired);
      record.reported = TextOrEmpty(change.patch->reported);
      record.time = change.time;
      const bool notify = change.kind != Kind::kReported &&
                          change.after.connected && !record.desired.empty();
      GroupCommit::Durable durable;
      if (notify) {
        Notifier::Notification notification{
            notifier_->wants_device_ids() ? std::string(change.device_id)
                                          : std::string(),
            shard.LinkOf(change.row),
            std::make_shared<const std::string>(record.desired),
            change.after.desired_version};
        durable = [notifier = notifier_, partition = change.partition,
                   notification = std::move(notification)](
                      const absl::Status& status) mutable {
          if (!status.ok()) return;
          std::vector<Notifier::Notification> one;
          one.push_back(std::move(notification));
          notifier->Add(partition, std::move(one));
        };
      }
      commit_->Add(
          change.partition,
          [&](std::string* out) { AppendRecord(record, out); },
          std::move(durable));
      return;
    }

    case Kind::kEnabled:
    case Kind::kDisabled:
      commit_->Add(change.partition, [&](std::string* out) {
        TwinPatchedRecord record;
        record.shard = number;
        record.row = row;
        record.sequence = change.sequence;
        record.kind = change.kind == Kind::kEnabled
                          ? TwinPatchedRecord::kEnabled
                          : TwinPatchedRecord::kDisabled;
        record.time = change.time;
        AppendRecord(record, out);
      });
      dispatcher_->OnRowChanged(shard, change.row);
      return;

    case Kind::kErased: {
      GroupCommit::Durable durable;
      if (const uint64_t link = shard.LinkOf(change.row); link != 0) {
        durable = [notifier = notifier_, partition = change.partition,
                   link](const absl::Status& status) {
          if (status.ok()) notifier->AddErased(partition, link);
        };
      }
      commit_->Add(
          change.partition,
          [&](std::string* out) {
            AppendRecord(TwinErasedRecord{number, row, change.sequence}, out);
          },
          std::move(durable));
      dispatcher_->OnRowErased(shard, change.row);
      return;
    }

    case Kind::kLoaded:
      commit_->Add(change.partition, [&](std::string* out) {
        AppendShardWritten(
            number, change.sequence,
            [&](std::string* bytes) {
              shard.mutex.AssertReaderHeld();
              ShardSnapshot::Write(shard, bytes);
            },
            out);
      });
      return;

    // Not journaled: after a restart the transport reports connections anew.
    // Another one than before may reach the device where that did not.
    case Kind::kConnected:
      dispatcher_->OnRowChanged(shard, change.row);
      return;
    case Kind::kDisconnected:
      return;
  }
}

}  // namespace muster
