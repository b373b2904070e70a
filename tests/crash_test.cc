// kill -9 of the real process on a real folder, at random instants under full
// load: what was acknowledged and what was published stays true (I8 to I11),
// and the books balance in the end.  And: no bit of the folder changes without
// that being noticed.
//
//   bazel run //tests:crash_test -- --kills=1000 --seed=7
#include <fcntl.h>
#include <signal.h>
#include <sys/poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "gtest/gtest.h"
#include "tests/crash_state.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr int kShards = 4;

// Flags.
std::string worker_path;
int kills = 200;
int flips = 1'000;
uint32_t seed = 0;

int64_t Number(absl::string_view text) {
  int64_t number = 0;
  MUSTER_CHECK(absl::SimpleAtoi(text, &number));
  return number;
}

// What the trace says must be true.  Told line by line, it complains as soon as
// something is not.
class Books {
 public:
  // A process is started.
  void StartRound() { StartState(); }

  void Tell(const std::string& line) {
    SCOPED_TRACE(line);
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    const std::string& what = words[0];
    if (what == "patch?" || what == "put?") {
      twins_[words[1]].asked = Twin{true, Number(words[2])};
    } else if (what == "erase?") {
      twins_[words[1]].asked = Twin{false, Number(words[2])};
    } else if (what == "patch!") {
      Take(words[1]);
      const int64_t version = Number(words[3]);
      Device& device = twins_[words[1]];
      EXPECT_GT(version, device.version);
      device.version = version;
    } else if (what == "put!" || what == "erase!") {
      Take(words[1]);
    } else if (what == "job?") {
      EXPECT_TRUE(
          jobs_.emplace(words[1], Job{words[2] == "method", Number(words[3])})
              .second);
    } else if (what == "job-") {
      jobs_.erase(words[1]);
    } else if (what == "job!") {
      jobs_.at(words[1]).acknowledged = true;
    } else if (what == "cancel!") {
      jobs_.at(words[1]).cancelled = true;
    } else if (what == "load?") {
      for (auto it = twins_.begin(); it != twins_.end();) {
        it = it->first[0] == 'd' ? twins_.erase(it) : std::next(it);
      }
    } else if (what == "load!") {
      loaded_ = true;
    } else if (what == "stat") {
      Counts({words.begin() + 3, words.end()}, words[2],
             jobs_.at(words[2]).read[words[1]]);
    } else if (what == "exec") {
      Finished(words[1], words[2], words[3] + " " + words[4]);
    } else if (what == "sent") {
      Job& job = jobs_.at(words[1]);
      EXPECT_TRUE(job.sent.insert(words[2]).second) << "called twice";
      EXPECT_FALSE(job.cancelled) << "called for a cancelled job";
      EXPECT_TRUE(job.is_method);
    } else if (what == "J") {
      FoundJob(words);
    } else if (what == "X") {
      EXPECT_TRUE(executions_[words[1]]
                      .emplace(words[2], words[3] + " " + words[4])
                      .second)
          << "two executions of one device";
      if (words[3] != "pending" && words[3] != "running") {
        Finished(words[1], words[2], words[3] + " " + words[4]);
      }
    } else if (what == "T") {
      EXPECT_TRUE(
          found_twins_
              .emplace(words[1], Found{Number(words[2]), Number(words[3])})
              .second);
    } else if (what == "ready") {
      Opened();
      StartState();
    } else if (what == "settled") {
      Settled();
    } else if (what != "cancel?" && what != "cancel-" && what != "gone") {
      ADD_FAILURE() << "unexpected";  // "error" too.
    }
  }

  int64_t jobs() const { return static_cast<int64_t>(jobs_.size()); }
  int64_t calls() const {
    int64_t calls = 0;
    for (const auto& [id, job] : jobs_) calls += job.sent.size();
    return calls;
  }
  int64_t patches() const {
    int64_t patches = 0;
    for (const auto& [id, device] : twins_) patches += device.patches;
    return patches;
  }
  int64_t resolved() const { return resolved_; }

 private:
  void StartState() {
    found_twins_.clear();
    found_jobs_.clear();
    executions_.clear();
  }

  struct Twin {
    bool exists = false;
    int64_t n = 0;
  };
  struct Device {
    Twin is;  // As acknowledged.
    std::optional<Twin> asked;
    int64_t patches = 0;
    int64_t version = 0;  // At least.
  };
  struct Found {
    int64_t n;
    int64_t version;
  };
  // What was read of a job: what is read later is not less.
  struct Floor {
    bool running = false;  // Or ended.
    int64_t failed = 0;
    int64_t succeeded = 0;
  };
  struct Job {
    bool is_method = false;
    int64_t devices = 0;
    bool acknowledged = false;
    bool cancelled = false;
    Floor floor;  // Of all rounds before.
    // Since then, by caller: each reads one after the other.
    std::map<std::string, Floor> read;
    std::string ended;  // Counts, once it has.
    std::string hash;
    std::set<std::string> sent;
    std::map<std::string, std::string> finished;
  };

  void Take(const std::string& id) {
    Device& device = twins_[id];
    ASSERT_TRUE(device.asked.has_value());
    device.is = *device.asked;
    device.asked.reset();
    ++device.patches;
  }

  void Finished(const std::string& job, const std::string& device,
                const std::string& how) {
    EXPECT_EQ(jobs_.at(job).finished.emplace(device, how).first->second, how)
        << "a terminal execution changed";
  }

  // `words`: status, device, failed, succeeded, running, pending, ...
  void Counts(const std::vector<std::string>& words, const std::string& id,
              Floor& floor) {
    Job& job = jobs_.at(id);
    const std::string& status = words[0];
    if (status == "waiting") {
      EXPECT_FALSE(job.floor.running || floor.running);
      return;
    }
    const int64_t device = Number(words[1]), failed = Number(words[2]),
                  succeeded = Number(words[3]), running = Number(words[4]),
                  pending = Number(words[5]);
    if (status == "cancelled") {
      if (device < 0) return;  // It never ran.
    } else {
      EXPECT_EQ(device, job.devices);
    }
    EXPECT_FALSE(job.cancelled);
    EXPECT_EQ(device, failed + succeeded + running + pending);
    EXPECT_GE(failed, std::max(job.floor.failed, floor.failed));
    EXPECT_GE(succeeded, std::max(job.floor.succeeded, floor.succeeded));
    floor = {true, failed, succeeded};
    if (status == "running") return;
    EXPECT_EQ(status, "completed");
    EXPECT_EQ(running + pending, 0);
    const std::string end = absl::StrCat(failed, " ", succeeded);
    if (job.ended.empty()) job.ended = end;
    EXPECT_EQ(job.ended, end);
  }

  void FoundJob(const std::vector<std::string>& words) {
    const auto found = jobs_.find(words[1]);
    ASSERT_TRUE(found != jobs_.end()) << "nobody asked for it";
    Job& job = found->second;
    EXPECT_TRUE(found_jobs_.insert(words[1]).second);
    Floor floor;
    for (const auto& [caller, read] : std::exchange(job.read, {})) {
      floor.running |= read.running;
      floor.failed = std::max(floor.failed, read.failed);
      floor.succeeded = std::max(floor.succeeded, read.succeeded);
    }
    Counts({words.begin() + 2, words.end()}, words[1], floor);
    job.floor = floor;
    EXPECT_TRUE(!job.cancelled || words[2] == "cancelled");
    EXPECT_TRUE(job.ended.empty() || words[2] == "completed");
    if (words[8] != "0") {
      if (job.hash.empty()) job.hash = words[8];
      EXPECT_EQ(job.hash, words[8]);
    }
    EXPECT_TRUE(job.hash.empty() || words[8] != "0");
  }

  // Everything that is there has been told.
  void Opened() {
    for (auto it = jobs_.begin(); it != jobs_.end();) {
      Job& job = it->second;
      if (found_jobs_.count(it->first) != 0) {
        job.acknowledged = true;
        ++it;
        continue;
      }
      // Of those that were created since, there is nothing in the trace yet.
      EXPECT_FALSE(job.acknowledged) << it->first << " is lost";
      EXPECT_TRUE(job.sent.empty()) << it->first;
      EXPECT_TRUE(job.finished.empty()) << it->first;
      it = jobs_.erase(it);
    }
    if (!loaded_ && found_twins_.empty()) return;
    for (auto& [id, found] : found_twins_) twins_.try_emplace(id);
    for (auto& [id, device] : twins_) {
      const auto found = found_twins_.find(id);
      const bool exists = found != found_twins_.end();
      const auto is = [&, &id = id](const Twin& twin) {
        return twin.exists == exists &&
               (!exists || twin.n == found_twins_.at(id).n);
      };
      // A device of the fleet that was only loaded.
      if (id[0] == 'd' && device.patches == 0) device.is.exists = true;
      if (device.asked.has_value()) {
        ++resolved_;
        if (is(*device.asked)) Take(id);
        device.asked.reset();
      }
      EXPECT_TRUE(is(device.is))
          << id
          << (exists ? absl::StrCat(" has ", found->second.n) : " is not there")
          << ", but should " << (device.is.exists ? "have " : "not be there, ")
          << device.is.n;
      if (id[0] != 'd' || !exists) continue;
      EXPECT_GE(found->second.version, device.version) << id;
      device.version = found->second.version;
    }
  }

  // All has ended that will.
  void Settled() {
    Opened();
    std::map<std::string, int64_t> updates;
    for (const auto& [id, job] : jobs_) {
      SCOPED_TRACE(id);
      if (job.ended.empty()) continue;
      int64_t succeeded = 0;
      for (const auto& [device, how] : executions_[id]) {
        if (how != "completed 0") {
          EXPECT_EQ(how.find("failed"), 0u) << how;
          continue;
        }
        ++succeeded;
        if (job.is_method) {
          EXPECT_EQ(job.sent.count(device), 1u);
        } else {
          ++updates[device];
        }
      }
      const int64_t all = static_cast<int64_t>(executions_[id].size());
      EXPECT_EQ(all, job.devices);
      EXPECT_EQ(absl::StrCat(all - succeeded, " ", succeeded), job.ended);
    }
    // A twin's version tells how often it was changed: each patch and each
    // job's update counts once, whatever happened on the way.
    for (const auto& [id, found] : found_twins_) {
      if (id[0] != 'd') continue;
      EXPECT_EQ(found.version, 1 + twins_[id].patches + updates[id]) << id;
    }
  }

  std::map<std::string, Device> twins_;
  std::map<std::string, Job> jobs_;
  bool loaded_ = false;
  int64_t resolved_ = 0;  // Changes whose answer a kill has swallowed.

  // Of the state that is being told.
  std::map<std::string, Found> found_twins_;
  std::set<std::string> found_jobs_;
  std::map<std::string, std::map<std::string, std::string>> executions_;
};

// A worker on a folder of its own, killed and started again.
class Victim {
 public:
  explicit Victim(uint32_t seed) : random_(seed) {
    std::string path = absl::StrCat(::testing::TempDir(), "/crash.XXXXXX");
    MUSTER_CHECK(mkdtemp(path.data()) != nullptr);
    root_ = path;
  }
  ~Victim() {
    if (!::testing::Test::HasFailure()) fs::remove_all(root_);
  }

  const std::string& root() const { return root_; }
  std::string folder() const { return root_ + "/data"; }
  const Books& books() const { return books_; }

  // Starts it, and kills it while it starts or works.
  void KillOnce() {
    Start(false);
    if (random_() % 5 == 0) {
      Sleep(1 + random_() % 60);
    } else {
      AwaitWord();
      Sleep(5 + random_() % 195);
    }
    Kill();
  }

  // Starts it, and kills it when everything has ended.
  void KillSettled() {
    Start(true);
    AwaitWord();  // "ready"
    AwaitWord();
    Kill();
  }

 private:
  static void Sleep(int64_t ms) { absl::SleepFor(absl::Milliseconds(ms)); }
  std::string trace() const { return root_ + "/trace"; }

  void Start(bool settle) {
    int ends[2];
    MUSTER_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    const std::string round = absl::StrCat(++rounds_);
    const std::string its_seed = absl::StrCat(random_() % 1'000'000'000);
    const std::string data = folder(), its_trace = trace();
    std::vector<const char*> arguments = {worker_path.c_str(),
                                          data.c_str(),
                                          its_trace.c_str(),
                                          round.c_str(),
                                          its_seed.c_str(),
                                          settle ? "settle" : nullptr,
                                          nullptr};
    books_.StartRound();
    process_ = fork();
    MUSTER_CHECK(process_ >= 0);
    if (process_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      execv(arguments[0], const_cast<char**>(arguments.data()));
      _exit(127);
    }
    close(ends[1]);
    word_ = ends[0];
  }

  void AwaitWord() {
    pollfd poll_for = {word_, POLLIN, 0};
    char byte;
    EXPECT_TRUE(poll(&poll_for, 1, 120'000) == 1 && read(word_, &byte, 1) == 1)
        << "the worker said nothing";
  }

  void Kill() {
    kill(process_, SIGKILL);
    int status = 0;
    MUSTER_CHECK(waitpid(process_, &status, 0) == process_);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the worker ended by itself: " << status;
    close(word_);
    // A line that is cut off was cut off by the kill: it does not count.
    std::ifstream file(trace(), std::ios::binary);
    file.seekg(static_cast<std::streamoff>(told_));
    std::string line;
    while (std::getline(file, line) && !file.eof()) {
      books_.Tell(line);
      told_ += line.size() + 1;
    }
    if (fs::exists(trace())) fs::resize_file(trace(), told_);
  }

  std::mt19937 random_;
  std::string root_;
  Books books_;
  int rounds_ = 0;
  pid_t process_ = -1;
  int word_ = -1;
  size_t told_ = 0;  // Bytes of the trace that the books have been told.
};

class Crash : public testing::TestWithParam<int> {
 protected:
  Crash() : seed_(seed + static_cast<uint32_t>(GetParam())) {
    std::cerr << "--seed=" << seed << "\n";
  }
  const uint32_t seed_;
};
INSTANTIATE_TEST_SUITE_P(Shard, Crash, testing::Range(0, kShards));

TEST_P(Crash, NothingIsLostAndNothingCountedTwice) {
  SCOPED_TRACE(absl::StrCat("--seed=", seed));
  Victim victim(seed_);
  const int rounds = kills / kShards;
  for (int i = 0; i < rounds && !HasFailure(); ++i) {
    SCOPED_TRACE(absl::StrCat("kill ", i));
    victim.KillOnce();
  }
  ASSERT_FALSE(HasFailure()) << "see " << victim.root();
  victim.KillSettled();
  EXPECT_FALSE(HasFailure()) << "see " << victim.root();
  std::cerr << rounds << " kills, " << victim.books().jobs() << " jobs, "
            << victim.books().calls() << " calls of devices, "
            << victim.books().patches() << " twin writes, "
            << victim.books().resolved() << " of them without an answer\n";
}

// ------------------------------------------------------------------- flips

// A folder in memory, if there is such a thing: what is only read back needs
// no disk to wait for.
std::string FastFolder() {
  std::string path = "/dev/shm/crash.XXXXXX";
  if (mkdtemp(path.data()) != nullptr) return path;
  path = absl::StrCat(::testing::TempDir(), "/crash.XXXXXX");
  MUSTER_CHECK(mkdtemp(path.data()) != nullptr);
  return path;
}

// All that can be read in a folder, or the error that says why not.
absl::StatusOr<std::string> Read(const std::string& folder) {
  auto journal = RocksDbJournal::Open({.directory = folder});
  if (!journal.ok()) return journal.status();
  auto engine = Engine::Create({.threads = 1, .journal = journal->get()});
  if (!engine.ok()) return engine.status();
  return CrashState(**engine, /*with_executions=*/true);
}

TEST_P(Crash, NoBitFlipsUnnoticed) {
  SCOPED_TRACE(absl::StrCat("--seed=", seed));
  Victim victim(seed_ + 1'000);
  for (int i = 0; i < 8; ++i) victim.KillOnce();
  victim.KillSettled();
  ASSERT_FALSE(HasFailure());
  const std::string root = FastFolder();
  const std::string copy = root + "/copy";
  const auto make_copy = [&] {
    fs::remove_all(copy);
    fs::copy(victim.folder(), copy, fs::copy_options::recursive);
  };
  make_copy();
  const absl::StatusOr<std::string> whole = Read(copy);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_GT(whole->size(), 10'000u);

  std::vector<std::pair<std::string, size_t>> files;
  size_t size = 0;
  for (const auto& entry : fs::recursive_directory_iterator(victim.folder())) {
    if (!entry.is_regular_file() || entry.file_size() == 0) continue;
    files.emplace_back(fs::relative(entry.path(), victim.folder()),
                       entry.file_size());
    size += entry.file_size();
  }
  std::sort(files.begin(), files.end());
  std::mt19937 random(seed_);
  std::map<std::string, int> refused;
  int harmless = 0;
  for (int i = 0; i < flips / kShards; ++i) {
    make_copy();
    // Every other one anywhere in the bytes, the others file by file: small
    // files matter no less.
    size_t file = random() % files.size();
    size_t at = random() % files[file].second;
    if (i % 2 == 0) {
      at = random() % size;
      for (file = 0; at >= files[file].second; ++file) at -= files[file].second;
    }
    const auto bit = static_cast<int>(random() % 8);
    const std::string what =
        absl::StrCat(files[file].first, " byte ", at, " bit ", bit);
    SCOPED_TRACE(what);
    {
      std::fstream bytes(copy + "/" + files[file].first,
                         std::ios::in | std::ios::out | std::ios::binary);
      bytes.seekg(static_cast<std::streamoff>(at));
      const int byte = bytes.get();
      bytes.seekp(static_cast<std::streamoff>(at));
      bytes.put(static_cast<char>(byte ^ (1 << bit)));
      ASSERT_TRUE(bytes.good());
    }
    const absl::StatusOr<std::string> read = Read(copy);
    if (read.ok()) {
      ++harmless;
      EXPECT_TRUE(*read == *whole) << "a silent change";
    } else {
      ++refused[absl::StatusCodeToString(read.status().code())];
      EXPECT_TRUE(absl::IsDataLoss(read.status()) ||
                  absl::IsFailedPrecondition(read.status()))
          << read.status();
    }
  }
  fs::remove_all(root);
  std::cerr << size << " bytes in " << files.size() << " files, "
            << flips / kShards << " flips: " << harmless << " harmless";
  for (const auto& [code, count] : refused) {
    std::cerr << ", " << count << " " << code;
  }
  std::cerr << "\n";
}

}  // namespace
}  // namespace muster

// These stand before the C library's in this process, which opens folders by
// the hundred.  In memory, setting space aside takes longer than all the rest.
extern "C" int fallocate(int, int, off_t, off_t) {
  errno = EOPNOTSUPP;
  return -1;
}

// RocksDB sleeps for a second when damage ends a compaction; nobody else here
// calls this.
extern "C" int usleep(useconds_t) { return 0; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  muster::seed = std::random_device()() % 1'000'000;
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> flag =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    if (flag.first == "--worker") {
      muster::worker_path = flag.second;
    } else if (flag.first == "--kills") {
      muster::kills = static_cast<int>(muster::Number(flag.second));
    } else if (flag.first == "--flips") {
      muster::flips = static_cast<int>(muster::Number(flag.second));
    } else if (flag.first == "--seed") {
      muster::seed = static_cast<uint32_t>(muster::Number(flag.second));
    } else {
      std::cerr << "unknown flag " << argv[i] << "\n";
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
