// What an engine may be told: flags that all commands share which have one that
// works for others.
#ifndef SERVER_ENGINE_FLAGS_H_
#define SERVER_ENGINE_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "server/flags.h"

namespace muster {

// Threads that `muster` uses if nobody says otherwise: the machine's
// processors.
int DefaultThreads();

struct EngineFlags {
  std::string sync = "group";
  std::string profile = "unlimited";
  int64_t units = 1;
  std::string active_limit = "reject";
  int64_t threads = DefaultThreads();
};

// `flags`, and behind them those of `o`.
std::vector<Flag> WithEngineFlags(EngineFlags* o, std::vector<Flag> flags);

// Sets the options that the flags are for.
absl::Status SetEngineOptions(const EngineFlags& flags, EngineOptions* options);

JournalSync SyncOf(const EngineFlags& flags);

}  // namespace muster

#endif  // SERVER_ENGINE_FLAGS_H_
