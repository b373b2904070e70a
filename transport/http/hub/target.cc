#include "transport/http/hub/target.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace muster::hub {
namespace {

// REQUIRES: absl::ascii_isxdigit(c).
int HexDigit(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c))
             ? c - '0'
             : absl::ascii_tolower(static_cast<unsigned char>(c)) - 'a' + 10;
}

bool IsEscape(absl::string_view text) {
  return text.size() >= 3 && text[0] == '%' &&
         absl::ascii_isxdigit(static_cast<unsigned char>(text[1])) &&
         absl::ascii_isxdigit(static_cast<unsigned char>(text[2]));
}

std::string Decode(absl::string_view text) {
  const size_t first = text.find('%');
  std::string out(text.substr(0, first));
  if (first == absl::string_view::npos) return out;
  for (size_t i = first; i < text.size(); ++i) {
    if (IsEscape(text.substr(i))) {
      out.push_back(static_cast<char>(HexDigit(text[i + 1]) * 16 +
                                      HexDigit(text[i + 2])));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

}  // namespace

std::string Target::Path() const {
  std::string path;
  for (const std::string& segment : segments) {
    absl::StrAppend(&path, "/", segment);
  }
  return path;
}

Target ParseTarget(absl::string_view text) {
  Target target;
  const size_t question = text.find('?');
  for (const absl::string_view segment :
       absl::StrSplit(text.substr(0, question), '/', absl::SkipEmpty())) {
    target.segments.push_back(Decode(segment));
  }
  if (question == absl::string_view::npos) return target;
  for (const absl::string_view field :
       absl::StrSplit(text.substr(question + 1), '&', absl::SkipEmpty())) {
    const size_t equals = field.find('=');
    target.query.emplace_back(Decode(field.substr(0, equals)),
                              equals == absl::string_view::npos
                                  ? std::string()
                                  : Decode(field.substr(equals + 1)));
  }
  return target;
}

}  // namespace muster::hub
