// Certificates and keys from files.
#ifndef TRANSPORT_TLS_PEM_FILES_H_
#define TRANSPORT_TLS_PEM_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// A PEM file's text.
//   NOT_FOUND         there is no such file, or it may not be read
//   INVALID_ARGUMENT  it has no PEM in it
absl::StatusOr<std::string> ReadPem(const std::string& path);

// INVALID_ARGUMENT naming the file if one of the two texts cannot be read, or
// if the key is not that of the first certificate.  A key with a passphrase
// cannot be read.
absl::Status CheckKeyPair(const std::string& certificate_path,
                          absl::string_view certificate,
                          const std::string& key_path, absl::string_view key);

}  // namespace muster

#endif  // TRANSPORT_TLS_PEM_FILES_H_
