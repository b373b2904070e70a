// KeptFolder: what `--data DIR` keeps.
//
// DIR is the folder of the engine's journal (rocksdb_journal.h), and one file
// more: `devices`, the simulated devices, and who of them was connected in the
// fleet that was loaded.  The journal does not say: after a restart a transport
// does, and simulated devices have nothing else to know it from.
//
// The file also tells a load that was cut off from one that came to its end: it
// is there, and empty, before the first twin is, and filled when all are.
#ifndef SERVER_KEPT_FOLDER_H_
#define SERVER_KEPT_FOLDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/journal/journal.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"

namespace muster {

// The fleet that was loaded.
struct KeptFleet {
  std::string name;    // For people; "" as long as no load has come to its end.
  int64_t bytes = -1;  // Of its file; -1 if they were not known.
  std::vector<absl::string_view> connected;  // deviceIds, and those ...
  std::vector<absl::string_view> disconnected;

  int64_t devices() const {
    return static_cast<int64_t>(connected.size() + disconnected.size());
  }
};

// Not thread-safe, but for the journal.
class KeptFolder {
 public:
  // Opens the folder, or makes it.
  //   FAILED_PRECONDITION also if another program's engine has written it
  //   DATA_LOSS           also if `devices` is damaged
  // and what else RocksDbJournal::Open() answers.
  static absl::StatusOr<std::unique_ptr<KeptFolder>> Open(
      const std::string& directory, JournalSync sync);

  // Whether there is such a folder already; looks, and opens nothing.
  static bool Exists(const std::string& directory);

  Journal* journal() { return journal_.get(); }

  // Whether a fleet was loaded, all of it.
  bool has_fleet() const { return !fleet_.name.empty(); }
  const KeptFleet& fleet() const { return fleet_; }

  // Forgets the ids, which take memory.
  void DropIds();

  // Remembers, durably, that `fleet` was loaded; not its ids in this object.
  // REQUIRES: it has a name.  Errors as RocksDbJournal::Open().
  absl::Status KeepFleet(const KeptFleet& fleet);

 private:
  explicit KeptFolder(const std::string& directory);

  absl::Status ReadDevices();

  const std::string path_;  // Of `devices`.
  std::unique_ptr<RocksDbJournal> journal_;
  std::string text_;  // The ids of `fleet_` stand here.
  KeptFleet fleet_;
};

}  // namespace muster

#endif  // SERVER_KEPT_FOLDER_H_
