// Code points of UTF-8 text: the query language counts in them.
#ifndef ENGINE_QUERY_UTF8_H_
#define ENGINE_QUERY_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// Reads the code point at the front of `text`: its length in bytes, 1 to 4, or
// 0 if `text` is empty or does not begin with well-formed UTF-8 (overlong forms
// and surrogates are not).
int DecodeUtf8(absl::string_view text, char32_t* code_point);

// REQUIRES: `code_point` is at most U+10FFFF and no surrogate.
void AppendUtf8(char32_t code_point, std::string* out);

// REQUIRES, of all below: well-formed `text`.

// Code points in `text`.
size_t Utf8Length(absl::string_view text);

// The offset in bytes of code point `index`; text.size() if there are fewer.
size_t Utf8Offset(absl::string_view text, size_t index);

}  // namespace muster

#endif  // ENGINE_QUERY_UTF8_H_
