// PageToken: where the next page of a query begins.
//
// The token is all that is known about a query between two pages: the server
// keeps nothing.  Its text is opaque to callers, printable, and says of which
// query it is, so that a token that was damaged or is used with another query
// is refused instead of giving rows of the wrong place.
//
//   text = base64url(version, checksum, collection, statement hash, rows given,
//                    keys)
#ifndef ENGINE_QUERY_PAGE_TOKEN_H_
#define ENGINE_QUERY_PAGE_TOKEN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// Of the text, in bytes.
inline constexpr size_t kPageTokenSizeMax = 2048;
// Of `collection` and all of `last_key` taken together.
inline constexpr size_t kPageTokenKeyBytesMax = 1024;
inline constexpr size_t kPageTokenKeysMax = 8;

struct PageToken {
  // What is listed, e.g. CollectionName(); a listing without a statement has a
  // name of its own ("jobs") and hashes its filters.
  std::string collection;
  uint64_t statement_hash = 0;
  // Key of the last row given, most significant part first: {deviceId}, or
  // {deviceId, jobId}.  The next page begins behind it.
  std::vector<std::string> last_key;
  // Rows given on all pages so far: TOP bounds their sum, and rows that have no
  // key (groups) begin there.
  int64_t rows_given = 0;

  friend bool operator==(const PageToken&, const PageToken&) = default;
};

// A stable hash for `statement_hash`.
uint64_t HashForPageToken(absl::string_view text);

// REQUIRES: within the limits above, rows_given >= 0.
std::string EncodePageToken(const PageToken& token);

// ArgumentInvalid (400004) if `text` is no page token, was damaged, or belongs
// to another collection or statement.  The checksum finds accidents; it is no
// signature, and a token grants nothing that the query would not.
absl::StatusOr<PageToken> DecodePageToken(absl::string_view text,
                                          absl::string_view collection,
                                          uint64_t statement_hash);

}  // namespace muster

#endif  // ENGINE_QUERY_PAGE_TOKEN_H_
