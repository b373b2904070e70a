#include "engine/journal/rocksdb/rocksdb_journal.h"

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "engine/journal/rocksdb/database.h"
#include "engine/journal/rocksdb/fence_stamp.h"
#include "engine/journal/rocksdb/folder.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "rocksdb/write_batch.h"

namespace muster {
namespace {

// A batch is no larger than this and one request.
constexpr size_t kGroupBytesMax = 32 << 20;

// Opening reads the whole log back: a disk that stays full is not asked more
// often than this.
constexpr absl::Duration kReopenAfter = absl::Milliseconds(200);

constexpr absl::Duration kStampSyncEvery = absl::Seconds(1);

// Changes that become durable together, and the states with them done.
struct Group {
  explicit Group(std::vector<PartitionState> now) : states(std::move(now)) {}

  rocksdb::WriteBatch batch;
  std::vector<PartitionState> states;
};

class Impl final : public RocksDbJournal {
 public:
  Impl(JournalFolder folder, JournalSync sync, JournalState state,
       std::shared_ptr<JournalDatabase> database,
       std::unique_ptr<FenceStampFile> stamp_file)
      : folder_(std::move(folder)),
        sync_(sync),
        partition_count_(static_cast<int>(state.partitions.size())),
        states_(std::move(state.partitions)),
        stamp_file_(std::move(stamp_file)),
        writing_(database),
        database_(std::move(database)),
        snapshot_writes_(partition_count_) {
    acknowledged_.commit = state.commit;
    for (const PartitionState& p : states_) {
      acknowledged_.last_sequences.push_back(p.last_sequence);
    }
    writer_ = std::thread([this] { WriteLoop(); });
    reclaimer_ = std::thread([this] { ReclaimLoop(); });
  }

  ~Impl() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      if (database_ != nullptr) database_->Cancel();
    }
    writer_.join();
    reclaimer_.join();
  }

  int partition_count() const override { return partition_count_; }

  absl::StatusOr<Ownership> Acquire(int partition) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    Ownership owned;
    absl::Status s = Do(partition, 0, [&owned](PartitionState& p, Group&) {
      owned = {++p.epoch, p.last_sequence + 1};
      return absl::OkStatus();
    });
    if (!s.ok()) return s;
    return owned;
  }

  absl::Status Release(int partition, uint64_t epoch) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    return Do(partition, 0, [=](PartitionState& p, Group&) {
      absl::Status s = CheckEpoch(partition, p, epoch);
      if (s.ok()) ++p.epoch;
      return s;
    });
  }

  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) {
      return std::move(done)(std::move(s));
    }
    Request request;
    request.partition = partition;
    request.sequence = sequence;
    request.is_append = true;
    request.bytes = chunk.size();
    request.change = [this, partition, epoch, sequence,
                      chunk = std::move(chunk)](PartitionState& p,
                                                Group& group) {
      return Put(partition, epoch, sequence, chunk, p, group);
    };
    request.done = std::move(done);
    Enqueue(std::move(request));
  }

  absl::Status Read(int partition, uint64_t from,
                    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)>
                        visit) const override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    absl::StatusOr<std::shared_ptr<JournalDatabase>> database = Database();
    if (!database.ok()) return database.status();
    return (*database)->ReadChunks(partition, from, visit);
  }

  absl::Status Trim(int partition, uint64_t below) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    return Do(partition, 0, [=, this](PartitionState& p, Group& group) {
      const uint64_t end = std::min(below, p.last_sequence + 1);
      if (end <= p.first_sequence) return absl::OkStatus();
      group.batch
          .DeleteRange(writing_->journal(), ChunkKey(partition, 0),
                       ChunkKey(partition, end))
          .PermitUncheckedError();
      // Chunks are about of a size.
      const uint64_t chunks = p.last_sequence + 1 - p.first_sequence;
      const auto bytes =
          static_cast<uint64_t>(static_cast<double>(p.chunk_bytes) *
                                static_cast<double>(end - p.first_sequence) /
                                static_cast<double>(chunks));
      p.chunk_bytes -= bytes;
      p.first_sequence = end;
      deleted_bytes_ += bytes;
      return absl::OkStatus();
    });
  }

  absl::Status WriteSnapshot(int partition, uint64_t epoch, uint64_t sequence,
                             absl::Span<const std::string> parts) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    absl::MutexLock lock(&snapshot_writes_[partition]);
    // The parts of a new generation, one by one, so that appends go between
    // them; nobody looks at them until the state names their generation.
    uint64_t bytes = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      absl::Status s =
          Do(partition, parts[i].size(), [&](PartitionState& p, Group& group) {
            absl::Status status = CheckEpoch(partition, p, epoch);
            if (!status.ok()) return status;
            const uint64_t generation = p.snapshot_generation + 1;
            rocksdb::ColumnFamilyHandle* const table = writing_->snapshots();
            if (i == 0) {
              // Of a snapshot that was never finished.
              group.batch
                  .DeleteRange(table, PartKey(partition, generation, 0),
                               PartKey(partition, generation + 1, 0))
                  .PermitUncheckedError();
            }
            return Stored(group.batch.Put(
                table, PartKey(partition, generation, i), parts[i]));
          });
      if (!s.ok()) return s;
      bytes += parts[i].size();
    }
    return Do(partition, 0, [&](PartitionState& p, Group& group) {
      if (absl::Status s = CheckEpoch(partition, p, epoch); !s.ok()) return s;
      ++p.snapshot_generation;
      group.batch
          .DeleteRange(writing_->snapshots(), PartKey(partition, 0, 0),
                       PartKey(partition, p.snapshot_generation, 0))
          .PermitUncheckedError();
      deleted_bytes_ += p.snapshot_bytes;
      p.snapshot_sequence = sequence;
      p.snapshot_parts = parts.size();
      p.snapshot_bytes = bytes;
      return absl::OkStatus();
    });
  }

  absl::StatusOr<uint64_t> ReadSnapshot(
      int partition,
      absl::FunctionRef<absl::Status(absl::string_view)> visit) const override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    absl::StatusOr<std::shared_ptr<JournalDatabase>> database = Database();
    if (!database.ok()) return database.status();
    return (*database)->ReadSnapshot(partition, 0, visit);
  }

  int64_t DiskUsage() const override { return folder_.DiskUsage(); }

  RocksDbJournalStats Stats() const override {
    std::vector<absl::Duration> times;
    RocksDbJournalStats stats;
    {
      absl::MutexLock lock(&mutex_);
      stats = stats_;
      const auto kept =
          static_cast<size_t>(std::min<int64_t>(stats_.commits, kCommitTimes));
      times.assign(commit_times_.begin(), commit_times_.begin() + kept);
    }
    if (!times.empty()) {
      std::sort(times.begin(), times.end());
      stats.commit_p50 = times[times.size() / 2];
      stats.commit_p99 = times[times.size() * 99 / 100];
    }
    stats.disk_bytes = folder_.DiskUsage();
    return stats;
  }

 private:
  static constexpr int64_t kCommitTimes = 1024;

  // Checks against the state and adds to the batch; runs on the writing thread.
  // An error changes nothing.
  using Change = absl::AnyInvocable<absl::Status(PartitionState&, Group&)>;

  struct Request {
    int partition = 0;
    uint64_t sequence = 0;
    bool is_append = false;
    size_t bytes = 0;
    Change change;  // Null: only needs the database to be open.
    Done done;
  };

  struct Answer {
    Done done;
    absl::Status status;
    int64_t bytes;
    bool is_append;
  };

  absl::Status CheckPartition(int partition) const {
    if (partition >= 0 && partition < partition_count_) return absl::OkStatus();
    return absl::OutOfRangeError(absl::StrCat(
        "there is no partition ", partition, "; there are ", partition_count_));
  }

  static absl::Status CheckEpoch(int partition, const PartitionState& p,
                                 uint64_t epoch) {
    if (epoch == p.epoch) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("partition ", partition, ": epoch ", epoch,
                     " is fenced by epoch ", p.epoch));
  }

  // A value that is too large for the database is not in the batch.
  static absl::Status Stored(const rocksdb::Status& status) {
    return status.ok() ? absl::OkStatus()
                       : absl::OutOfRangeError(status.ToString());
  }

  absl::Status Put(int partition, uint64_t epoch, uint64_t sequence,
                   const std::string& chunk, PartitionState& p, Group& group) {
    if (absl::Status s = CheckEpoch(partition, p, epoch); !s.ok()) return s;
    if (sequence == p.last_sequence + 1) {
      if (absl::Status s = Stored(group.batch.Put(
              writing_->journal(), ChunkKey(partition, sequence), chunk));
          !s.ok()) {
        return s;
      }
      p.last_sequence = sequence;
      p.chunk_bytes += chunk.size();
      return absl::OkStatus();
    }
    if (sequence >= p.first_sequence && sequence <= p.last_sequence) {
      absl::StatusOr<std::string> stored =
          writing_->ReadChunk(partition, sequence);
      if (!stored.ok()) return stored.status();
      if (*stored == chunk) return absl::OkStatus();
    }
    return absl::OutOfRangeError(
        absl::StrCat("partition ", partition, ": slot ", sequence,
                     " is not the next, ", p.last_sequence + 1));
  }

  void Enqueue(Request request) const {
    {
      absl::MutexLock lock(&mutex_);
      if (queued_bytes_ <= kQueuedBytesMax) {
        queued_bytes_ += static_cast<int64_t>(request.bytes);
        queue_.push_back(std::move(request));
        return;
      }
    }
    std::move(request.done)(absl::UnavailableError(absl::StrCat(
        "the journal has more than ", kQueuedBytesMax, " bytes to write")));
  }

  // Waits until a change is durable.
  absl::Status Do(int partition, size_t bytes, Change change) const {
    MUSTER_CHECK(std::this_thread::get_id() != writer_.get_id());
    absl::Notification answered;
    absl::Status result;
    Request request;
    request.partition = partition;
    request.bytes = bytes;
    request.change = std::move(change);
    request.done = [&](absl::Status status) {
      result = std::move(status);
      answered.Notify();
    };
    Enqueue(std::move(request));
    answered.WaitForNotification();
    return result;
  }

  // The database to read from, opened anew if it has failed.
  absl::StatusOr<std::shared_ptr<JournalDatabase>> Database() const {
    for (;;) {
      {
        absl::MutexLock lock(&mutex_);
        if (database_ != nullptr && !database_->failed()) return database_;
      }
      if (absl::Status s = Do(0, 0, nullptr); !s.ok()) return s;
    }
  }

  // ------------------------------------------------- the writing thread

  void WriteLoop() {
    std::deque<Request> requests;
    for (;;) {
      const absl::Duration until_sync =
          stamp_is_dirty_
              ? std::max(absl::ZeroDuration(), stamp_sync_at_ - Now())
              : absl::InfiniteDuration();
      {
        absl::MutexLock lock(&mutex_);
        mutex_.AwaitWithTimeout(absl::Condition(this, &Impl::HasWork),
                                until_sync);
        requests.swap(queue_);
        if (requests.empty() && stopping_) break;
      }
      while (!requests.empty()) CommitGroup(requests);
      if (stamp_is_dirty_ && Now() >= stamp_sync_at_) SyncStamp();
    }
    if (stamp_is_dirty_) SyncStamp();
    CloseDatabase();
  }

  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !queue_.empty() || stopping_;
  }

  static absl::Duration Now() { return Clock::Real().Monotonic(); }

  // Takes requests from the front, as many as may share a batch, and answers
  // them; all of them, if the database cannot be opened.
  void CommitGroup(std::deque<Request>& requests) {
    std::vector<Answer> answers;
    const auto take = [&](absl::Status status) {
      Request& r = requests.front();
      answers.push_back({std::move(r.done), std::move(status),
                         static_cast<int64_t>(r.bytes), r.is_append});
      requests.pop_front();
    };
    if (absl::Status s = EnsureOpen(); !s.ok()) {
      while (!requests.empty()) take(s);
      return Tell(answers);
    }
    Group group(states_);
    deleted_bytes_ = 0;
    while (!requests.empty() && !writing_->failed()) {
      Request& r = requests.front();
      if (!answers.empty() && !MayJoin(r, group)) break;
      take(r.change == nullptr ? absl::OkStatus()
                               : r.change(group.states[r.partition], group));
    }
    absl::Status written;
    if (writing_->failed()) {
      // A slot could not be read back.
      written = answers.back().status;
    } else if (group.states != states_ || group.batch.Count() != 0) {
      written = WriteGroup(group);
    }
    if (!written.ok()) {
      // Nothing of it counts, not even what was refused: that stood on changes
      // of the same group.
      for (Answer& answer : answers) answer.status = written;
      CloseDatabase();
    }
    Tell(answers);
  }

  bool MayJoin(const Request& r, const Group& group) const {
    if (sync_ == JournalSync::kEach ||
        group.batch.GetDataSize() + r.bytes > kGroupBytesMax) {
      return false;
    }
    // A slot that this very group fills can be read back only when it is there.
    return !r.is_append || r.sequence <= states_[r.partition].last_sequence ||
           r.sequence > group.states[r.partition].last_sequence;
  }

  absl::Status WriteGroup(Group& group) {
    const absl::Duration begin = Now();
    const uint64_t commit = acknowledged_.commit + 1;
    for (int i = 0; i < partition_count_; ++i) {
      if (group.states[i] != states_[i]) {
        writing_->PutState(i, group.states[i], &group.batch);
      }
    }
    if (absl::Status s =
            writing_->Write(&group.batch, commit, sync_ != JournalSync::kNone);
        !s.ok()) {
      return s;
    }
    FenceStamp stamp = {commit, {}};
    for (const PartitionState& p : group.states) {
      stamp.last_sequences.push_back(p.last_sequence);
    }
    // Not before it is on disk: a stamp ahead of the log says that the log has
    // lost something.
    if (sync_ != JournalSync::kNone) {
      if (absl::Status s = stamp_file_->Write(stamp); !s.ok()) return s;
    }
    if (!stamp_is_dirty_) stamp_sync_at_ = begin + kStampSyncEvery;
    stamp_is_dirty_ = true;
    acknowledged_ = std::move(stamp);
    states_ = std::move(group.states);
    const absl::Duration took = Now() - begin;
    uint64_t live = 0;
    for (const PartitionState& p : states_) {
      live += p.chunk_bytes + p.snapshot_bytes;
    }
    absl::MutexLock lock(&mutex_);
    commit_times_[stats_.commits % kCommitTimes] = took;
    ++stats_.commits;
    deleted_ += deleted_bytes_;
    live_ = live;
    return absl::OkStatus();
  }

  void Tell(std::vector<Answer>& answers) {
    {
      absl::MutexLock lock(&mutex_);
      for (const Answer& answer : answers) {
        queued_bytes_ -= answer.bytes;
        if (answer.is_append && answer.status.ok()) {
          ++stats_.appends;
          stats_.append_bytes += answer.bytes;
        }
      }
    }
    for (Answer& answer : answers) {
      std::move(answer.done)(std::move(answer.status));
    }
  }

  // On an error the stamp on disk stays as it is: older, and still true.
  void SyncStamp() {
    stamp_is_dirty_ = false;
    absl::Status s;
    if (sync_ == JournalSync::kNone) {
      s = writing_ != nullptr && !writing_->failed()
              ? writing_->SyncLog()
              : absl::UnavailableError("closed");
      if (s.ok()) s = stamp_file_->Write(acknowledged_);
    }
    if (s.ok()) s = stamp_file_->Sync();
    if (!s.ok()) CloseDatabase();
  }

  // Lets go of it; whoever reads it meanwhile lets go of it when done.
  void CloseDatabase() {
    if (writing_ == nullptr) return;
    writing_->Cancel();
    {
      absl::MutexLock lock(&mutex_);
      database_ = nullptr;
    }
    closing_ = writing_;
    writing_ = nullptr;
  }

  absl::Status EnsureOpen() {
    if (writing_ != nullptr && !writing_->failed()) return absl::OkStatus();
    CloseDatabase();
    if (!closing_.expired()) {
      return absl::UnavailableError(
          "the journal has failed, and is still being read");
    }
    if (Now() < reopen_at_) return reopen_error_;
    reopen_error_ = Reopen();
    if (!reopen_error_.ok()) reopen_at_ = Now() + kReopenAfter;
    return reopen_error_;
  }

  absl::Status Reopen() {
    // Against what was answered, which the file may not say yet.
    absl::StatusOr<std::shared_ptr<JournalDatabase>> opened =
        JournalDatabase::Open(folder_.DatabasePath(), acknowledged_);
    if (!opened.ok()) return opened.status();
    absl::StatusOr<std::unique_ptr<FenceStampFile>> stamp_file =
        FenceStampFile::Open(folder_.StampPath());
    if (!stamp_file.ok()) return stamp_file.status();
    stamp_file_ = *std::move(stamp_file);
    // It may have stored more than was answered, not less.
    const JournalState& state = (*opened)->state_at_open();
    states_ = state.partitions;
    acknowledged_.commit = state.commit;
    for (int i = 0; i < partition_count_; ++i) {
      acknowledged_.last_sequences[i] = states_[i].last_sequence;
    }
    writing_ = *std::move(opened);
    absl::MutexLock lock(&mutex_);
    database_ = writing_;
    ++stats_.reopened;
    return absl::OkStatus();
  }

  // ------------------------------------------------ the reclaiming thread

  void ReclaimLoop() {
    for (;;) {
      std::shared_ptr<JournalDatabase> database;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &Impl::ShouldReclaim));
        if (stopping_) return;
        database = database_;
        deleted_ = 0;
      }
      // An error fails the database; the next call opens it anew.
      if (database != nullptr) database->Reclaim().IgnoreError();
    }
  }

  bool ShouldReclaim() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || (database_ != nullptr && deleted_ > kTrimmedBytesMax &&
                         deleted_ > live_);
  }

  // Constant after construction.
  const JournalFolder folder_;
  const JournalSync sync_;
  const int partition_count_;

  // The writing thread's own.
  std::vector<PartitionState> states_;  // As durable.
  FenceStamp acknowledged_;
  std::unique_ptr<FenceStampFile> stamp_file_;
  bool stamp_is_dirty_ = false;
  absl::Duration stamp_sync_at_;
  std::shared_ptr<JournalDatabase> writing_;
  std::weak_ptr<JournalDatabase> closing_;  // Gone when its readers are done.
  absl::Status reopen_error_;
  absl::Duration reopen_at_;
  uint64_t deleted_bytes_ = 0;  // By the group that is being made.

  // A leaf: nothing is called under it.  What is mutable is so for Read(),
  // which may find the database in need of being opened anew.
  mutable absl::Mutex mutex_;
  mutable std::deque<Request> queue_ ABSL_GUARDED_BY(mutex_);
  mutable int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<JournalDatabase> database_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t deleted_ ABSL_GUARDED_BY(mutex_) = 0;  // Since the last reclaiming.
  int64_t live_ ABSL_GUARDED_BY(mutex_) = 0;
  RocksDbJournalStats stats_ ABSL_GUARDED_BY(mutex_);
  std::array<absl::Duration, kCommitTimes> commit_times_
      ABSL_GUARDED_BY(mutex_);

  // One snapshot of a partition is written at a time.
  std::vector<absl::Mutex> snapshot_writes_;

  std::thread writer_;
  std::thread reclaimer_;
};

// A new folder has first a stamp at 0, then a database, then a stamp that is
// not 0: one at 0 says that making it was cut short, before anything was
// answered.
absl::StatusOr<std::shared_ptr<JournalDatabase>> OpenOrMake(
    const JournalFolder& folder, int partition_count) {
  const std::string stamp_path = folder.StampPath();
  if (!journal_files::Exists(stamp_path)) {
    if (journal_files::Exists(folder.DatabasePath())) {
      return absl::DataLossError(
          absl::StrCat(stamp_path, " is missing beside the database"));
    }
    if (absl::Status s = FenceStampFile::Make(
            stamp_path,
            {0, std::vector<uint64_t>(static_cast<size_t>(partition_count))});
        !s.ok()) {
      return s;
    }
  }
  absl::StatusOr<FenceStamp> stamp = FenceStampFile::Read(stamp_path);
  if (!stamp.ok()) return stamp.status();
  if (stamp->commit != 0) {
    // An earlier version left it open to everybody.
    if (absl::Status s = folder.HideDatabase(); !s.ok()) return s;
    return JournalDatabase::Open(folder.DatabasePath(), *stamp);
  }
  absl::StatusOr<std::shared_ptr<JournalDatabase>> made = JournalDatabase::Make(
      folder.DatabasePath(), static_cast<int>(stamp->last_sequences.size()));
  if (!made.ok()) return made;
  if (absl::Status s = folder.HideDatabase(); !s.ok()) return s;
  stamp->commit = (*made)->state_at_open().commit;
  if (absl::Status s = FenceStampFile::Make(stamp_path, *stamp); !s.ok()) {
    return s;
  }
  return made;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RocksDbJournal>> RocksDbJournal::Open(
    const RocksDbJournalOptions& options) {
  if (options.directory.empty()) {
    return absl::InvalidArgumentError("directory is empty");
  }
  if (options.partition_count < 1 || options.partition_count > 256) {
    return absl::InvalidArgumentError(absl::StrCat(
        "partition_count must be in [1, 256]; got ", options.partition_count));
  }
  absl::StatusOr<JournalFolder> folder =
      JournalFolder::Open(options.directory, JournalFolder::Access::kReadWrite);
  if (!folder.ok()) return folder.status();
  absl::StatusOr<std::shared_ptr<JournalDatabase>> database =
      OpenOrMake(*folder, options.partition_count);
  if (!database.ok()) return database.status();
  absl::StatusOr<std::unique_ptr<FenceStampFile>> stamp_file =
      FenceStampFile::Open(folder->StampPath());
  if (!stamp_file.ok()) return stamp_file.status();
  JournalState state = (*database)->state_at_open();
  return std::make_unique<Impl>(*std::move(folder), options.sync,
                                std::move(state), *std::move(database),
                                *std::move(stamp_file));
}

}  // namespace muster
