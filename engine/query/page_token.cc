#include "engine/query/page_token.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"

namespace muster {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kNumberSize = 8;

// Little endian, whatever the machine: a token may come back to another one.
void PutNumber(uint64_t number, std::string* out) {
  for (size_t i = 0; i < kNumberSize; ++i) {
    out->push_back(static_cast<char>(number >> (8 * i)));
  }
}

void PutText(absl::string_view text, std::string* out) {
  PutNumber(text.size(), out);
  out->append(text.data(), text.size());
}

// Both return false if the bytes end before.
bool TakeNumber(absl::string_view* bytes, uint64_t* number) {
  if (bytes->size() < kNumberSize) return false;
  *number = 0;
  for (size_t i = 0; i < kNumberSize; ++i) {
    *number |= uint64_t{static_cast<uint8_t>((*bytes)[i])} << (8 * i);
  }
  bytes->remove_prefix(kNumberSize);
  return true;
}

bool TakeText(absl::string_view* bytes, std::string* text) {
  uint64_t size = 0;
  if (!TakeNumber(bytes, &size) || bytes->size() < size) return false;
  *text = std::string(bytes->substr(0, size));
  bytes->remove_prefix(size);
  return true;
}

// version, checksum of what follows, what follows.
bool TakeToken(absl::string_view bytes, PageToken* token) {
  if (bytes.empty() || static_cast<uint8_t>(bytes[0]) != kVersion) return false;
  bytes.remove_prefix(1);
  uint64_t checksum = 0;
  if (!TakeNumber(&bytes, &checksum) || checksum != HashForPageToken(bytes)) {
    return false;
  }
  uint64_t rows = 0;
  uint64_t keys = 0;
  if (!TakeText(&bytes, &token->collection) ||
      !TakeNumber(&bytes, &token->statement_hash) ||
      !TakeNumber(&bytes, &rows) || rows > INT64_MAX ||
      !TakeNumber(&bytes, &keys) || keys > kPageTokenKeysMax) {
    return false;
  }
  token->rows_given = static_cast<int64_t>(rows);
  token->last_key.resize(keys);
  for (std::string& key : token->last_key) {
    if (!TakeText(&bytes, &key)) return false;
  }
  return bytes.empty();
}

}  // namespace

// FNV-1a with 64 bits, and a last step that spreads the high bits: the same on
// every machine, and better than needed against accidents.
uint64_t HashForPageToken(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  hash = (hash ^ (hash >> 32)) * 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 29);
}

std::string EncodePageToken(const PageToken& token) {
  MUSTER_CHECK(token.rows_given >= 0);
  MUSTER_CHECK(token.last_key.size() <= kPageTokenKeysMax);
  size_t key_bytes = token.collection.size();
  for (const std::string& key : token.last_key) key_bytes += key.size();
  MUSTER_CHECK(key_bytes <= kPageTokenKeyBytesMax);

  std::string body;
  PutText(token.collection, &body);
  PutNumber(token.statement_hash, &body);
  PutNumber(static_cast<uint64_t>(token.rows_given), &body);
  PutNumber(token.last_key.size(), &body);
  for (const std::string& key : token.last_key) PutText(key, &body);

  std::string bytes(1, static_cast<char>(kVersion));
  PutNumber(HashForPageToken(body), &bytes);
  bytes += body;
  std::string text = absl::WebSafeBase64Escape(bytes);
  MUSTER_CHECK(text.size() <= kPageTokenSizeMax);
  return text;
}

absl::StatusOr<PageToken> DecodePageToken(absl::string_view text,
                                          absl::string_view collection,
                                          uint64_t statement_hash) {
  PageToken token;
  std::string bytes;
  // Only the spelling that was given out: base64 has others for the same bytes.
  if (text.size() > kPageTokenSizeMax ||
      !absl::WebSafeBase64Unescape(text, &bytes) ||
      absl::WebSafeBase64Escape(bytes) != text || !TakeToken(bytes, &token)) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     "the continuation token is damaged");
  }
  if (token.collection != collection) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat("the continuation token belongs to a query over ",
                     absl::Utf8SafeCHexEscape(token.collection), ", not over ",
                     collection));
  }
  if (token.statement_hash != statement_hash) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     "the continuation token belongs to another statement");
  }
  return token;
}

}  // namespace muster
