#include "engine/load_twins.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/error.h"
#include "engine/twin/json_lines.h"

namespace muster {
namespace {

// Reads a file of lines in blocks that end where lines end.
class LineFile {
 public:
  ~LineFile() {
    if (file_ != nullptr) std::fclose(file_);
  }

  absl::Status Open(const std::string& path) {
    file_ = std::fopen(path.c_str(), "rb");
    if (file_ != nullptr) return absl::OkStatus();
    return absl::NotFoundError(
        absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  }

  // The next block, empty at the end.
  absl::StatusOr<std::string> Next(const std::string& path) {
    constexpr size_t kBlockBytes = 4 << 20;
    std::string block = std::move(rest_);
    rest_.clear();
    while (!at_end_) {
      const size_t old_size = block.size();
      block.resize(old_size + kBlockBytes);
      const size_t n = std::fread(&block[old_size], 1, kBlockBytes, file_);
      block.resize(old_size + n);
      if (n < kBlockBytes) {
        if (std::ferror(file_)) {
          return absl::UnavailableError(
              absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
        }
        at_end_ = true;
        break;
      }
      const size_t end = block.rfind('\n');
      if (end == std::string::npos) continue;  // One long line.
      rest_ = block.substr(end + 1);
      block.resize(end + 1);
      break;
    }
    return block;
  }

 private:
  std::FILE* file_ = nullptr;
  std::string rest_;
  bool at_end_ = false;
};

// Parses blocks on the executor and on the calling thread, in any order.  The
// caller never waits for a block that nobody has begun, so that it may be one
// of the executor's own threads.
class BlockParser : public std::enable_shared_from_this<BlockParser> {
 public:
  BlockParser(JsonLinesLoader* loader, Executor* executor)
      : loader_(loader),
        executor_(executor),
        queued_max_(2 * executor->concurrency()) {}

  void Add(std::string block, int64_t first_line) {
    bool full;
    {
      absl::MutexLock lock(&mutex_);
      queue_.push_back({std::move(block), first_line});
      full = static_cast<int>(queue_.size()) > queued_max_;
    }
    executor_->Run([self = weak_from_this()]() {
      if (auto parser = self.lock()) parser->ParseOne();
    });
    if (full) ParseOne();
  }

  // Returns when all blocks have been parsed.
  void Finish() {
    while (ParseOne()) {
    }
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](BlockParser* p)
             ABSL_NO_THREAD_SAFETY_ANALYSIS { return p->under_way_ == 0; },
        this));
  }

 private:
  struct Block {
    std::string text;
    int64_t first_line;
  };

  // False if there was none.
  bool ParseOne() {
    Block block;
    {
      absl::MutexLock lock(&mutex_);
      if (queue_.empty()) return false;
      block = std::move(queue_.front());
      queue_.pop_front();
      ++under_way_;
    }
    loader_->Add(block.text, block.first_line);
    absl::MutexLock lock(&mutex_);
    --under_way_;
    return true;
  }

  JsonLinesLoader* const loader_;
  Executor* const executor_;
  const int queued_max_;
  absl::Mutex mutex_;
  std::deque<Block> queue_ ABSL_GUARDED_BY(mutex_);
  int under_way_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<LoadResult> LoadTwinFile(const std::string& path,
                                        const LoadOptions& options,
                                        TwinIndex* index, Executor* executor,
                                        Clock* clock) {
  LineFile file;
  if (absl::Status s = file.Open(path); !s.ok()) return s;
  JsonLinesLoader::Options loader_options;
  loader_options.skip_bad_lines = options.skip_bad_lines;
  JsonLinesLoader loader(index, loader_options);
  auto parser = std::make_shared<BlockParser>(&loader, executor);
  int64_t line = 1;
  int64_t bytes = 0;
  absl::Status failed;
  while (true) {
    absl::StatusOr<std::string> block = file.Next(path);
    if (!block.ok()) failed = block.status();
    if (!block.ok() || block->empty()) break;
    const int64_t first_line = line;
    line += std::count(block->begin(), block->end(), '\n');
    bytes += static_cast<int64_t>(block->size());
    parser->Add(*std::move(block), first_line);
    if (options.progress) options.progress(bytes);
  }
  parser->Finish();
  if (!failed.ok()) return failed;
  absl::StatusOr<JsonLinesLoader::Loaded> loaded = loader.Commit(clock->Now());
  if (!loaded.ok())
    return PrefixError(absl::StrCat(path, ": "), loaded.status());
  LoadResult result;
  result.loaded = loaded->twin_count;
  result.skipped = loaded->skipped_count;
  result.problems = std::move(loaded->messages);
  return result;
}

}  // namespace muster
