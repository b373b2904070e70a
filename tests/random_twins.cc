#include "tests/random_twins.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "engine/twin/etag.h"

namespace muster {
namespace {

// Some need [[ ]] in a condition, some ['...'].
constexpr absl::string_view kKeys[] = {
    "a",      "b",      "c",  "location", "fw", "version", "type", "Region",
    "region", "my-tag", "in", "4g",       "é",  "部屋",    "a]b",  "x]]y",
    "!",      "it's",   "#",  "back\\",   "\"", "devices", "𝄞",    "length",
};

// Bytes that have two or more in UTF-8, and the edges of code point order:
// U+FFFD sorts before U+1D11E by code point, and behind it by UTF-16 unit.
constexpr absl::string_view kCharacters[] = {
    "a", "b",  "Z",  "0",      "é", "Ω",      "ß", "\\u0000", "\\u001f", "\\n",
    "~", "部", "屋", "\uFFFD", "𝄞", "\uFEFF", " ", "\\\"",    "\\\\",    "ü",
};

constexpr absl::string_view kSpecialNumbers[] = {
    "0",
    "-0.0",
    "0.0",
    "1",
    "-1",
    "4503599627370495",
    "-4503599627370496",
    "1e300",
    "-1e300",
    "5e-324",
    "-5e-324",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "0.1",
    "0.30000000000000004",
    "9007199254740993.0",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "1e-7",
};

std::string StringText(absl::string_view text) {
  std::string quoted;
  AppendJsonString(text, &quoted);
  return quoted;
}

// A double with all its digits: of any size, or of an everyday one.
std::string DoubleText(Choices* choices) {
  uint64_t bits = choices->Bits();
  if (choices->OneIn(2)) {
    // Exponents from -15 to 16.
    bits = (bits & 0x800f'ffff'ffff'ffff) | (1008 + (bits >> 52 & 31)) << 52;
  }
  double value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  // Twins refuse what looks like an integer gone wrong.
  if (!std::isfinite(value) || (value >= 0x1p63 && value <= 0x1p64)) value = 1;
  return absl::StrFormat("%.17e", value);
}

std::string TimeText(uint32_t variant, uint32_t number) {
  const std::string date =
      absl::StrFormat("%04u-%02u-%02u", 2020 + number % 7, 1 + number / 7 % 12,
                      1 + number / 84 % 28);
  const std::string time = absl::StrFormat("T%02u:%02u:%02u", number % 24,
                                           number % 60, number / 60 % 60);
  switch (variant % 7) {
    case 0:
      return date + time + "Z";
    case 1:
      return date;
    case 2:
      return absl::StrFormat("%s%s.%03uZ", date, time, number % 1000);
    case 3:
      return absl::StrFormat("%s%s.%07uZ", date, time, number % 10'000'000);
    case 4:
      return date + time + "+01:00";
    case 5:
      return date + time;
    default:
      return absl::StrFormat("%s%s.5000000Z", date, time);
  }
}

// One in many is not like the others.
std::string Broken(std::string text, Choices* choices) {
  if (!choices->OneIn(100) || text.empty()) return text;
  const uint32_t at = choices->Below(static_cast<uint32_t>(text.size()));
  switch (choices->Below(5)) {
    case 0:
      text.erase(at, 1);
      break;
    case 1:
      text.insert(at, "0");
      break;
    case 2:
      text[at] = text[at] == 'x' ? 'y' : 'x';
      break;
    case 3:
      for (char& c : text) {
        c = 'A' <= c && c <= 'Z' ? static_cast<char>(c + 32) : c;
      }
      break;
    default:
      text += " ";
  }
  return text;
}

void SetAt(Tree* tree, const std::vector<std::string>& keys, Tree value) {
  for (size_t i = 0; i + 1 < keys.size(); ++i) {
    tree = &tree->members[keys[i]];
    if (tree->kind != Tree::kObject) *tree = Tree();
  }
  tree->members[keys.back()] = std::move(value);
}

}  // namespace

TwinShape::TwinShape(Choices* choices, int path_count)
    : id_style_(choices->Below(4)) {
  bool has_long[3] = {false, false, false};
  for (int i = 0; i < path_count; ++i) {
    Slot slot;
    slot.section = 2 - choices->IntBelow(3);
    if (i > 0 && choices->OneIn(4)) {
      // Beside, below or above another path.
      const Slot& other = choices->Pick(slots_);
      slot.section = other.section;
      slot.keys = other.keys;
      if (!choices->OneIn(3)) slot.keys.pop_back();
      if (choices->OneIn(3) && !slot.keys.empty()) slot.keys.pop_back();
    }
    const int more = 1 + (choices->OneIn(3) ? choices->IntBelow(3) : 0) +
                     (choices->OneIn(40) ? 3 : 0);
    for (int k = 0; k < more && slot.keys.size() < 8; ++k) {
      slot.keys.emplace_back(choices->OneIn(2) ? choices->Pick(kKeys)
                                               : kKeys[choices->Below(7)]);
    }
    slot.kind = static_cast<Kind>(choices->Below(kKindCount));
    if (slot.kind == Kind::kLong &&
        std::exchange(has_long[slot.section], true)) {
      slot.kind = Kind::kUnicode;
    }
    static constexpr uint32_t kCardinalities[] = {
        3, 1, 2, 10, 40, 255, 256, 1000, 9000, 70'000, 5'000'000};
    static constexpr uint32_t kPermilles[] = {1000, 1000, 950, 800, 500,
                                              100,  60,   10,  1};
    slot.cardinality = choices->Pick(kCardinalities);
    slot.variant = choices->Below(1000);
    slot.permille = choices->Pick(kPermilles);
    if (slot.kind == Kind::kLong) slot.permille = std::min(slot.permille, 60u);
    slots_.push_back(std::move(slot));
  }
}

std::string TwinShape::DeviceId(uint32_t number) const {
  // Multiplying by an odd number gives every device another one.
  const uint32_t mixed = number * 2'654'435'761u;
  switch (id_style_) {
    case 0:
      return absl::StrFormat("dev-%08u", number);
    case 1:
      return absl::StrFormat("SN%012X", mixed);
    case 2:
      return absl::StrFormat("%010u", mixed);
    default:
      // As different as they may be; the number at the end keeps them apart.
      static constexpr absl::string_view kPrefixes[] = {
          "", "d:", "A-", "$#*?!(),=@;'.+%_", "dev-", "0"};
      return absl::StrCat(kPrefixes[mixed % 6],
                          mixed % 11 == 0 ? std::string(mixed % 100, 'x') : "",
                          "-", number);
  }
}

std::string TwinShape::Value(const Slot& slot, Choices* choices) {
  const uint32_t number = choices->Below(slot.cardinality);
  const uint32_t variant = slot.variant;
  const auto text = [&](std::string value) {
    return StringText(Broken(std::move(value), choices));
  };
  switch (slot.kind) {
    case Kind::kSmallInt:
      return absl::StrCat(static_cast<int64_t>(number) - variant % 100);
    case Kind::kLowCardinality:
      return text(absl::StrCat(variant % 2 ? "emea-" : "", number % 300));
    case Kind::kTenths:
      return absl::StrFormat("%s%u.%u", variant % 3 == 0 ? "-" : "",
                             number / 10, number % 10);
    case Kind::kBool:
      return choices->Below(slot.cardinality + 1) == 0 ? "false" : "true";
    case Kind::kConstant: {
      static constexpr absl::string_view kConstants[] = {
          "\"on\"", "7", "true", "-0.0", "\"\"", "12.5", "[]", "{}", "[1]"};
      return std::string(kConstants[variant % std::size(kConstants)]);
    }
    case Kind::kWideInt:
      return absl::StrCat(static_cast<int64_t>(choices->Bits() >> 11) -
                          (int64_t{1} << 52));
    case Kind::kDecimal:
      return absl::StrFormat(
          "%.*f", 1 + static_cast<int>(number % 6),
          (static_cast<double>(choices->Below(2'000'001)) - 1'000'000) / 997);
    case Kind::kDouble:
      return DoubleText(choices);
    case Kind::kSpecialNumber:
      return std::string(choices->Pick(kSpecialNumbers));
    case Kind::kWholeAndFraction:
      return absl::StrCat(number, choices->OneIn(2) ? ".0" : "");
    case Kind::kHighCardinality: {
      std::string value;
      for (uint32_t i = 4 + variant % 16; i > 0; --i) {
        value +=
            "abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_/"[choices->Below(45)];
      }
      return StringText(value);
    }
    case Kind::kUnicode: {
      std::string value = "\"";
      for (uint32_t i = choices->Below(2 + number % 20); i > 0; --i) {
        absl::StrAppend(&value, choices->Pick(kCharacters));
      }
      return value + "\"";
    }
    case Kind::kShort: {
      static constexpr absl::string_view kShort[] = {
          "", "a", "A", " ", "0", "-1", "1e3", "true", "null", "é"};
      return StringText(choices->Pick(kShort));
    }
    case Kind::kNumbered:
      return text(absl::StrFormat("dev-%08u", number));
    case Kind::kSerial:
      return text(absl::StrFormat(
          "SN%012X", variant % 2 ? choices->Bits() >> 16 : uint64_t{number}));
    case Kind::kDigits:
      return text(variant % 3 == 0
                      ? absl::StrFormat("8944%012u", number)
                      : absl::StrFormat("%0*u",
                                        static_cast<int>(1 + variant % 12),
                                        number));
    case Kind::kTime:
      return text(TimeText(variant % 4 ? variant : choices->Below(7), number));
    case Kind::kVersion:
      return text(absl::StrFormat("%u.%u.%u%s", 1 + number % 3, number % 5,
                                  number % 17, number % 13 ? "" : "-rc1"));
    case Kind::kUuid: {
      const uint64_t a = choices->Bits();
      const uint64_t b = choices->Bits();
      return text(absl::StrFormat("%08x-%04x-%04x-%04x-%012x", a >> 32,
                                  a >> 16 & 0xffff, a & 0xffff, b >> 48,
                                  b & 0xffffffffffff));
    }
    case Kind::kStringArray: {
      std::string value = "[";
      for (uint32_t i = choices->Below(4); i > 0; --i) {
        absl::StrAppend(&value, value.size() > 1 ? "," : "", "\"g",
                        choices->Below(slot.cardinality) % 50, "\"");
      }
      return value + "]";
    }
    case Kind::kMixedArray: {
      static constexpr absl::string_view kElements[] = {
          "1",    "\"1\"", "null", "true",  "1.0",          "false",
          "-0.0", "[]",    "{}",   "[1,2]", "{\"a\":null}", "\"é\""};
      std::string value = "[";
      for (uint32_t i = choices->Below(6); i > 0; --i) {
        absl::StrAppend(&value, value.size() > 1 ? "," : "",
                        choices->Pick(kElements));
      }
      return value + "]";
    }
    case Kind::kObjectArray:
      return absl::StrFormat(R"([{"a":%u,"b":"%u"},{"a":%u}])", number % 5,
                             number % 3, number % 2);
    case Kind::kEmptyObject:
      return variant % 3 == 0 && choices->OneIn(2) ? R"({"a":{}})" : "{}";
    case Kind::kObject:
      return absl::StrFormat(R"({"a":%u,"b":{"c":"%u"}})", number, number % 10);
    case Kind::kMixed: {
      // Mostly one kind, and then any other: but not the long ones.
      Slot other = slot;
      other.kind = static_cast<Kind>(choices->OneIn(1 + variant % 20)
                                         ? choices->Below(kKindCount - 2)
                                         : variant % (kKindCount - 2));
      return Value(other, choices);
    }
    case Kind::kLong:
      break;
  }
  // A common beginning, so that a comparison has to go far.
  const uint32_t size =
      (slot.section == 0 ? 900 : 3900) - choices->Below(variant % 2 ? 2 : 800);
  std::string value(size, 'm');
  value += static_cast<char>('a' + number % 26);
  return StringText(value);
}

Tree TwinShape::Section(int section, bool sparse, Choices* choices) const {
  Tree tree;
  for (const Slot& slot : slots_) {
    if (slot.section != section) continue;
    if (sparse && choices->Below(4) != 3) continue;
    if (sparse && choices->OneIn(4)) {
      SetAt(&tree, slot.keys, Tree{.kind = Tree::kNull});
    } else if (choices->Below(1000) < slot.permille) {
      SetAt(&tree, slot.keys,
            Tree{.kind = Tree::kLeaf, .leaf = Value(slot, choices)});
    }
  }
  return tree;
}

std::string TwinShape::Twin(const std::string& device_id,
                            Choices* choices) const {
  std::map<std::string, std::string> members;
  members["deviceId"] = StringText(device_id);
  std::map<std::string, std::string> properties;
  const auto version = [&] {
    return choices->OneIn(2) ? 1 + choices->Below(300) : 0;
  };
  properties["desired"] = Text(Section(1, false, choices), version());
  properties["reported"] = Text(Section(2, false, choices), version());
  members["properties"] = ObjectText(properties);
  members["tags"] = Text(Section(0, false, choices));
  if (choices->OneIn(2)) {
    members["etag"] = StringText(EtagText(1 + choices->Below(70'000)));
  }
  if (choices->OneIn(2)) {
    members["version"] = absl::StrCat(1 + choices->Below(400));
  }
  if (choices->OneIn(2)) {
    members["connectionState"] =
        choices->OneIn(3) ? "\"Disconnected\"" : "\"Connected\"";
  }
  if (choices->OneIn(3)) members["status"] = "\"disabled\"";
  if (choices->OneIn(2)) {
    // Only in the form that the index keeps.
    const uint32_t precision = choices->Below(3);
    members["lastActivityTime"] = StringText(
        TimeText(precision == 0 ? 0 : 1 + precision, choices->Below(100'000)));
  }
  if (choices->OneIn(4)) {
    const uint32_t form = choices->Below(6);
    members["statusUpdateTime"] =
        StringText(TimeText(form == 1 ? 0 : form, choices->Below(1000)));
  }
  if (choices->OneIn(3)) {
    members["capabilities"] =
        choices->OneIn(3) ? R"({"iotEdge":true})" : R"({"iotEdge":false})";
  }
  if (choices->OneIn(4)) {
    members["x509Thumbprint"] = absl::StrFormat(
        R"({"primaryThumbprint":%s,"secondaryThumbprint":null})",
        choices->OneIn(2) ? "null" : "\"A909502DD82AE41433E6F83886B00D42\"");
  }
  if (choices->OneIn(4)) {
    members["authenticationType"] = choices->OneIn(2) ? "\"sas\"" : "\"none\"";
  }
  if (choices->OneIn(5)) {
    members["modelId"] = choices->OneIn(3) ? "\"\"" : "\"dtmi:x:Thermo;1\"";
  }
  if (choices->OneIn(6)) members["statusReason"] = "\"läuft\"";
  if (choices->OneIn(6)) members["deviceEtag"] = "\"Nzc=\"";
  if (choices->OneIn(8)) members["deviceScope"] = "\"ms-azure-iot-edge://a-1\"";
  if (choices->OneIn(8)) members["parentScopes"] = R"(["a","b"])";
  if (choices->OneIn(6)) {
    members["cloudToDeviceMessageCount"] = absl::StrCat(choices->Below(3));
  }
  return ObjectText(members);
}

std::string TwinShape::ServicePatch(Choices* choices) const {
  std::map<std::string, std::string> members;
  const uint32_t parts = choices->Below(8);
  const auto part = [&](int section) {
    return choices->OneIn(30) ? "null" : Text(Section(section, true, choices));
  };
  if (parts != 1) {
    members["properties"] = ObjectText({{"desired", part(1)}});
  }
  if (parts < 4) members["tags"] = part(0);
  return ObjectText(members);
}

std::string TwinShape::ReportedPatch(Choices* choices) const {
  return Text(Section(2, true, choices));
}

}  // namespace muster
