#include "engine/query/utf8.h"

#include <algorithm>

#include "engine/model/check.h"

namespace muster {
namespace {

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

}  // namespace

int DecodeUtf8(absl::string_view text, char32_t* code_point) {
  if (text.empty()) return 0;
  const uint8_t first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) {
    *code_point = first;
    return 1;
  }
  int length;
  char32_t value;
  char32_t smallest;  // That needs this length; below it the form is overlong.
  if ((first & 0xe0) == 0xc0) {
    length = 2, value = first & 0x1f, smallest = 0x80;
  } else if ((first & 0xf0) == 0xe0) {
    length = 3, value = first & 0x0f, smallest = 0x800;
  } else if ((first & 0xf8) == 0xf0) {
    length = 4, value = first & 0x07, smallest = 0x10000;
  } else {
    return 0;
  }
  if (text.size() < static_cast<size_t>(length)) return 0;
  for (int i = 1; i < length; ++i) {
    if (!IsContinuation(text[i])) return 0;
    value = (value << 6) | (static_cast<uint8_t>(text[i]) & 0x3f);
  }
  if (value < smallest || value > 0x10ffff ||
      (value >= 0xd800 && value <= 0xdfff)) {
    return 0;
  }
  *code_point = value;
  return length;
}

void AppendUtf8(char32_t code_point, std::string* out) {
  MUSTER_CHECK(code_point <= 0x10ffff &&
               (code_point < 0xd800 || code_point > 0xdfff));
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3f)));
  };
  if (code_point < 0x80) {
    out->push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out->push_back(static_cast<char>(0xc0 | (code_point >> 6)));
    tail(0);
  } else if (code_point < 0x10000) {
    out->push_back(static_cast<char>(0xe0 | (code_point >> 12)));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xf0 | (code_point >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

size_t Utf8Length(absl::string_view text) {
  return text.size() - std::count_if(text.begin(), text.end(), IsContinuation);
}

size_t Utf8Offset(absl::string_view text, size_t index) {
  size_t offset = 0;
  for (; index > 0 && offset < text.size(); --index) {
    do {
      ++offset;
    } while (offset < text.size() && IsContinuation(text[offset]));
  }
  return offset;
}

}  // namespace muster
