#include "engine/journal/rocksdb/database.h"

#include <cstdarg>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "engine/journal/rocksdb/fixed.h"
#include "rocksdb/iterator.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"

namespace muster {
namespace {

constexpr char kCommitKey[] = "commit";

std::string StateKey(int partition) {
  std::string key = "partition";
  AppendBigEndian(partition, 2, &key);
  return key;
}

std::string EncodeCommit(uint64_t commit) {
  std::string value;
  AppendBigEndian(commit, 8, &value);
  return value;
}

// The fields in their order.
template <typename State, typename F>
void ForEachField(State& s, F f) {
  for (auto* field :
       {&s.epoch, &s.first_sequence, &s.last_sequence, &s.chunk_bytes,
        &s.snapshot_generation, &s.snapshot_sequence, &s.snapshot_parts,
        &s.snapshot_bytes}) {
    f(*field);
  }
}

constexpr size_t kStateBytes = 8 * 8;

rocksdb::DBOptions DatabaseOptions(rocksdb::WALRecoveryMode mode,
                                   std::shared_ptr<rocksdb::Logger> messages) {
  rocksdb::DBOptions options;
  // Ours: the stock logger of a library built with assertions ends the process
  // when its own file cannot be written, which a full disk brings about.
  options.info_log = std::move(messages);
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.wal_recovery_mode = mode;
  options.paranoid_checks = true;
  options.manual_wal_flush = false;
  options.recycle_log_file_num = 0;
  // A failed handle is closed, and never mends itself: what it failed to sync
  // may be lost although a later sync succeeds.  Opening writes all anew that
  // was only in the log (avoid_flush_during_recovery stays off for that).
  options.max_bgerror_resume_count = 0;
  options.avoid_flush_during_recovery = false;
  options.max_background_jobs = 2;
  // Bounds what is read back at the next opening, and the space of what has
  // been trimmed but is still in the log.
  options.max_total_wal_size = 64 << 20;
  options.manifest_preallocation_size = 64 << 10;
  // No threads and no files for statistics that nobody reads.
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

rocksdb::ColumnFamilyOptions TableOptions() {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = 32 << 20;
  options.max_write_buffer_number = 3;
  options.compression = rocksdb::kNoCompression;  // Chunks are packed.
  options.paranoid_file_checks = false;           // Each block has a checksum.
  rocksdb::BlockBasedTableOptions table;
  table.block_size = 32 << 10;  // About a chunk.
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> Tables() {
  return {{rocksdb::kDefaultColumnFamilyName, TableOptions()},
          {"journal", TableOptions()},
          {"snapshots", TableOptions()}};
}

rocksdb::ReadOptions ScanOptions() {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;  // Read once, from end to end.
  options.readahead_size = 1 << 20;
  return options;
}

absl::string_view AsView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

}  // namespace

// Keeps the last few complaints, to say them beside an error.
class JournalDatabase::LastMessages : public rocksdb::Logger {
 public:
  LastMessages() : Logger(rocksdb::WARN_LEVEL) {}

  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    char text[512];
    vsnprintf(text, sizeof(text), format, arguments);
    absl::MutexLock lock(&mutex_);
    messages_.emplace_back(text);
    if (messages_.size() > kKept) messages_.pop_front();
  }

  // The newest, or nothing.
  std::string Last() {
    absl::MutexLock lock(&mutex_);
    return messages_.empty() ? "" : messages_.back();
  }

 private:
  static constexpr size_t kKept = 4;

  absl::Mutex mutex_;
  std::deque<std::string> messages_ ABSL_GUARDED_BY(mutex_);
};

// A partition at one instant.
class JournalDatabase::View {
 public:
  View(JournalDatabase& database, int partition)
      : database_(database), snapshot_(database.db_->GetSnapshot()) {
    options_ = ScanOptions();
    options_.snapshot = snapshot_;
    std::string value;
    const rocksdb::Status s =
        database_.db_->Get(options_, StateKey(partition), &value);
    if (!s.ok() || value.size() != kStateBytes) {
      status_ = database_.Failed(
          s.ok() ? rocksdb::Status::Corruption("state of a partition") : s,
          absl::StrCat("partition ", partition));
      return;
    }
    size_t offset = 0;
    ForEachField(state_, [&](uint64_t& field) {
      field = LoadBigEndian(value, offset, 8);
      offset += 8;
    });
  }
  ~View() { database_.db_->ReleaseSnapshot(snapshot_); }

  const absl::Status& status() const { return status_; }
  const PartitionState& state() const { return state_; }

  // Calls `visit` for the values whose keys are key(first), key(first + 1), ...
  // key(last): all of them have to be there.
  absl::Status Scan(
      rocksdb::ColumnFamilyHandle* table, uint64_t first, uint64_t last,
      absl::FunctionRef<std::string(uint64_t)> key, absl::string_view what,
      absl::FunctionRef<absl::Status(uint64_t, absl::string_view)> visit) {
    if (first > last) return absl::OkStatus();
    const std::unique_ptr<rocksdb::Iterator> it(
        database_.db_->NewIterator(options_, table));
    uint64_t number = first;
    for (it->Seek(key(first)); it->Valid() && number <= last; it->Next()) {
      // A key between two that follow each other: the one is missing.
      if (AsView(it->key()) != key(number)) break;
      if (database_.cancelled_.load(std::memory_order_relaxed)) {
        return absl::UnavailableError(
            "the journal was closed while it was read");
      }
      if (absl::Status s = visit(number, AsView(it->value())); !s.ok()) {
        return s;
      }
      ++number;
    }
    if (!it->status().ok()) {
      return database_.Failed(it->status(), absl::StrCat(what, " ", number));
    }
    if (number <= last) {
      return database_.Failed(rocksdb::Status::Corruption(absl::StrCat(
                                  "missing, of ", first, " to ", last)),
                              absl::StrCat(what, " ", number));
    }
    return absl::OkStatus();
  }

 private:
  JournalDatabase& database_;
  const rocksdb::Snapshot* const snapshot_;
  rocksdb::ReadOptions options_;
  PartitionState state_;
  absl::Status status_;
};

std::string ChunkKey(int partition, uint64_t sequence) {
  std::string key;
  AppendBigEndian(partition, 2, &key);
  AppendBigEndian(sequence, 8, &key);
  return key;
}

std::string PartKey(int partition, uint64_t generation, uint64_t part) {
  std::string key;
  AppendBigEndian(partition, 2, &key);
  AppendBigEndian(generation, 8, &key);
  AppendBigEndian(part, 4, &key);
  return key;
}

JournalDatabase::JournalDatabase(rocksdb::WALRecoveryMode mode)
    : mode_(mode), messages_(std::make_shared<LastMessages>()) {}

JournalDatabase::~JournalDatabase() {
  Cancel();
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* table : tables_) {
    db_->DestroyColumnFamilyHandle(table).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
}

absl::Status JournalDatabase::Failed(const rocksdb::Status& status,
                                     absl::string_view what) {
  failed_.store(true, std::memory_order_release);
  const std::string last = messages_->Last();
  const std::string message =
      absl::StrCat(what, ": ", status.ToString(),
                   last.empty() ? "" : absl::StrCat(" (", last, ")"));
  if (status.IsNoSpace() || absl::StrContains(message, "quota exceeded")) {
    return absl::ResourceExhaustedError(message);
  }
  // A file or a table that is not there, though the database knows of it.
  if (status.IsCorruption() || status.IsPathNotFound() || status.IsNotFound() ||
      status.IsInvalidArgument()) {
    return absl::DataLossError(message);
  }
  return absl::UnavailableError(message);
}

absl::StatusOr<std::shared_ptr<JournalDatabase>> JournalDatabase::OpenOnce(
    const std::string& path, Access access, rocksdb::WALRecoveryMode mode) {
  std::shared_ptr<JournalDatabase> database(new JournalDatabase(mode));
  rocksdb::DBOptions options = DatabaseOptions(mode, database->messages_);
  options.create_if_missing = access == Access::kMake;
  options.create_missing_column_families = access == Access::kMake;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status s =
      access == Access::kRead
          ? rocksdb::DB::OpenForReadOnly(options, path, Tables(),
                                         &database->tables_, &db)
          : rocksdb::DB::Open(options, path, Tables(), &database->tables_, &db);
  database->db_.reset(db);
  if (!s.ok()) return database->Failed(s, path);
  return database;
}

absl::Status JournalDatabase::LoadState() {
  const rocksdb::ReadOptions options = ScanOptions();
  std::string value;
  rocksdb::Status s = db_->Get(options, kCommitKey, &value);
  if (!s.ok()) return Failed(s, "the number of the last commit");
  state_at_open_.commit = LoadBigEndian(value, 0, 8);
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options));
  for (it->Seek(StateKey(0)); it->Valid(); it->Next()) {
    const int partition = static_cast<int>(state_at_open_.partitions.size());
    if (AsView(it->key()) != StateKey(partition) ||
        it->value().size() != kStateBytes) {
      return Failed(rocksdb::Status::Corruption("not a partition's state"),
                    absl::StrCat("partition ", partition));
    }
    PartitionState& state = state_at_open_.partitions.emplace_back();
    size_t offset = 0;
    ForEachField(state, [&](uint64_t& field) {
      field = LoadBigEndian(AsView(it->value()), offset, 8);
      offset += 8;
    });
  }
  if (!it->status().ok()) return Failed(it->status(), "the partitions");
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<JournalDatabase>> JournalDatabase::Make(
    const std::string& path, int partition_count) {
  absl::StatusOr<std::shared_ptr<JournalDatabase>> database =
      OpenOnce(path, Access::kMake,
               rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords);
  if (!database.ok()) return database;
  rocksdb::WriteBatch batch;
  JournalState& state = (*database)->state_at_open_;
  state.commit = 1;
  state.partitions.resize(partition_count);
  for (int i = 0; i < partition_count; ++i) {
    (*database)->PutState(i, state.partitions[i], &batch);
  }
  if (absl::Status s = (*database)->Write(&batch, 1, /*sync=*/true); !s.ok()) {
    return s;
  }
  return database;
}

absl::StatusOr<std::shared_ptr<JournalDatabase>> JournalDatabase::OpenToRead(
    const std::string& path) {
  absl::StatusOr<std::shared_ptr<JournalDatabase>> opened =
      OpenOnce(path, Access::kRead,
               rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords);
  if (absl::IsDataLoss(opened.status())) {
    opened = OpenOnce(path, Access::kRead,
                      rocksdb::WALRecoveryMode::kPointInTimeRecovery);
  }
  if (!opened.ok()) return opened;
  if (absl::Status s = (*opened)->LoadState(); !s.ok()) return s;
  return opened;
}

absl::StatusOr<std::shared_ptr<JournalDatabase>> JournalDatabase::Open(
    const std::string& path, const FenceStamp& stamp) {
  absl::StatusOr<std::shared_ptr<JournalDatabase>> opened = OpenToRead(path);
  if (!opened.ok()) return opened;
  if (absl::Status s = CheckStamp((*opened)->state_at_open_, stamp); !s.ok()) {
    return s;
  }
  const rocksdb::WALRecoveryMode mode = (*opened)->mode_;
  opened = OpenOnce(path, Access::kWrite, mode);
  if (!opened.ok()) return opened;
  if (absl::Status s = (*opened)->LoadState(); !s.ok()) return s;
  if (absl::Status s = CheckStamp((*opened)->state_at_open_, stamp); !s.ok()) {
    return s;
  }
  return opened;
}

void JournalDatabase::PutState(int partition, const PartitionState& state,
                               rocksdb::WriteBatch* batch) {
  std::string value;
  ForEachField(
      state, [&](const uint64_t& field) { AppendBigEndian(field, 8, &value); });
  // Fails only beyond 4 GiB.
  batch->Put(StateKey(partition), value).PermitUncheckedError();
}

absl::Status JournalDatabase::Write(rocksdb::WriteBatch* batch, uint64_t commit,
                                    bool sync) {
  rocksdb::Status s = batch->Put(kCommitKey, EncodeCommit(commit));
  if (s.ok()) {
    rocksdb::WriteOptions options;
    options.sync = sync;
    s = db_->Write(options, batch);
  }
  return s.ok() ? absl::OkStatus() : Failed(s, "write");
}

absl::Status JournalDatabase::SyncLog() {
  const rocksdb::Status s = db_->SyncWAL();
  return s.ok() ? absl::OkStatus() : Failed(s, "sync");
}

absl::StatusOr<std::string> JournalDatabase::ReadChunk(int partition,
                                                       uint64_t sequence) {
  std::string chunk;
  const rocksdb::Status s =
      db_->Get(ScanOptions(), journal(), ChunkKey(partition, sequence), &chunk);
  if (!s.ok()) {
    return Failed(
        s, absl::StrCat("partition ", partition, ", sequence ", sequence));
  }
  return chunk;
}

absl::Status JournalDatabase::ReadChunks(
    int partition, uint64_t from,
    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)> visit) {
  View view(*this, partition);
  if (!view.status().ok()) return view.status();
  const PartitionState& state = view.state();
  if (from < state.first_sequence) {
    return absl::OutOfRangeError(
        absl::StrCat("partition ", partition, ": chunk ", from,
                     " was trimmed; the oldest is ", state.first_sequence));
  }
  return view.Scan(
      journal(), from, state.last_sequence,
      [&](uint64_t sequence) { return ChunkKey(partition, sequence); },
      absl::StrCat("partition ", partition, ", sequence"), visit);
}

absl::StatusOr<uint64_t> JournalDatabase::ReadSnapshot(
    int partition, uint64_t first_part,
    absl::FunctionRef<absl::Status(absl::string_view)> visit) {
  View view(*this, partition);
  if (!view.status().ok()) return view.status();
  const PartitionState& state = view.state();
  absl::Status s =
      state.snapshot_parts == 0
          ? absl::OkStatus()
          : view.Scan(
                snapshots(), first_part, state.snapshot_parts - 1,
                [&](uint64_t part) {
                  return PartKey(partition, state.snapshot_generation, part);
                },
                absl::StrCat("partition ", partition, ", snapshot of sequence ",
                             state.snapshot_sequence, ", part"),
                [&](uint64_t, absl::string_view part) { return visit(part); });
  if (!s.ok()) return s;
  return state.snapshot_sequence;
}

absl::Status JournalDatabase::Reclaim() {
  for (rocksdb::ColumnFamilyHandle* table : {journal(), snapshots()}) {
    rocksdb::CompactRangeOptions options;
    options.canceled = &cancelled_;
    const rocksdb::Status s =
        db_->CompactRange(options, table, nullptr, nullptr);
    if (s.IsIncomplete()) return absl::UnavailableError("closed meanwhile");
    if (!s.ok()) return Failed(s, "giving back space");
  }
  return absl::OkStatus();
}

absl::Status CheckStamp(const JournalState& state, const FenceStamp& stamp) {
  if (state.partitions.size() != stamp.last_sequences.size()) {
    return absl::DataLossError(absl::StrCat(
        "the journal has ", state.partitions.size(),
        " partitions where its stamp has ", stamp.last_sequences.size()));
  }
  if (state.commit >= stamp.commit) return absl::OkStatus();
  std::vector<std::string> lost;
  for (size_t i = 0; i < state.partitions.size(); ++i) {
    const uint64_t last = state.partitions[i].last_sequence;
    if (last < stamp.last_sequences[i]) {
      lost.push_back(absl::StrCat("partition ", i, " ends at sequence ", last,
                                  " and was durable up to ",
                                  stamp.last_sequences[i]));
    }
  }
  return absl::DataLossError(
      absl::StrCat("the journal has lost what was durable: it ends at commit ",
                   state.commit, " of ", stamp.commit,
                   lost.empty() ? ", which changed owners or snapshots" : "; ",
                   absl::StrJoin(lost, "; ")));
}

}  // namespace muster
