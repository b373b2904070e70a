// The folder of a RocksDbJournal, apart from what is in its files:
//
//   lock     held by the one process that has the folder; holds its number
//   format   one line of text that names the format, read before all else
//   stamp    how far each partition was durable (fence_stamp.h)
//   db/      the database (database.h)
#ifndef ENGINE_JOURNAL_ROCKSDB_FOLDER_H_
#define ENGINE_JOURNAL_ROCKSDB_FOLDER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// An open file, closed when it goes.  Movable; not thread-safe.
class OpenFile {
 public:
  explicit OpenFile(int descriptor = -1) : descriptor_(descriptor) {}
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&& other) noexcept;
  ~OpenFile();

  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

// The folder's files and what they are called.
class JournalFolder {
 public:
  enum class Access {
    kReadWrite,  // Made if it is not there; its parent must be.
    kReadOnly,   // Must be there; nothing in it is changed.
  };

  // Takes the folder for this object's life: no other process, nor another
  // object of this one, has it at the same time.
  //   FAILED_PRECONDITION  somebody else has it (the message has the number of
  //                        its process); it is written by a newer version;
  //                        it holds other things
  //   DATA_LOSS            its format is damaged, or missing beside a database
  //   NOT_FOUND            it is not there and may not be made, or its parent
  //                        is not there
  //   PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE
  static absl::StatusOr<JournalFolder> Open(const std::string& directory,
                                            Access access);

  const std::string& directory() const { return directory_; }
  std::string StampPath() const;
  std::string DatabasePath() const;

  // Lets nobody but its owner into the database, which RocksDB makes for
  // everybody: the folder around it may be anybody's, made before.
  absl::Status HideDatabase() const;

  // Bytes that its files take on disk; what cannot be read counts 0.
  int64_t DiskUsage() const;

 private:
  JournalFolder(std::string directory, OpenFile lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}

  std::string directory_;
  OpenFile lock_;
};

namespace journal_files {

bool Exists(const std::string& path);

// "<what>: <errno's text>" as the code that fits: NOT_FOUND,
// PERMISSION_DENIED, RESOURCE_EXHAUSTED, else UNAVAILABLE.
absl::Status Error(int error_number, absl::string_view what);

// Makes `path` hold `bytes`, durably: whole, or as it was before.
absl::Status Replace(const std::string& path, absl::string_view bytes);

// The first `bytes_max` bytes of a file, or all.
absl::StatusOr<std::string> Read(const std::string& path, size_t bytes_max);

}  // namespace journal_files

}  // namespace muster

#endif  // ENGINE_JOURNAL_ROCKSDB_FOLDER_H_
