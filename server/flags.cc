#include "server/flags.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/nearest.h"

namespace muster {
namespace {

bool IsSwitch(const Flag& flag) {
  return std::holds_alternative<bool*>(flag.target);
}

absl::Status UnknownFlag(absl::Span<const Flag> flags, absl::string_view name) {
  std::vector<absl::string_view> known = {"help"};
  for (const Flag& flag : flags) known.push_back(flag.name);
  const absl::string_view nearest = NearestName(name, known);
  return absl::InvalidArgumentError(absl::StrCat(
      "there is no flag --", name,
      nearest.empty() ? "" : absl::StrCat("; did you mean --", nearest, "?")));
}

struct Assign {
  const Flag& flag;
  absl::string_view text;

  absl::Status operator()(bool* value) const {
    if (text == "true" || text == "false") {
      *value = text == "true";
      return absl::OkStatus();
    }
    return Wrong("true or false");
  }
  absl::Status operator()(std::string* value) const {
    if (text.empty()) return Wrong("a text that is not empty");
    *value = std::string(text);
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::string>* values) const {
    std::string value;
    absl::Status status = (*this)(&value);
    if (status.ok()) values->push_back(std::move(value));
    return status;
  }
  absl::Status operator()(const IntFlag& target) const {
    int64_t value;
    // SimpleAtoi() takes white space around the number.
    if (text.empty() || absl::StrContains(text, ' ') ||
        !absl::SimpleAtoi(text, &value) || value < target.min ||
        value > target.max) {
      return Wrong(
          absl::StrCat("an integer in [", target.min, ", ", target.max, "]"));
    }
    *target.value = value;
    return absl::OkStatus();
  }
  absl::Status operator()(const ChoiceFlag& target) const {
    if (!absl::c_linear_search(target.choices, text)) {
      return Wrong(
          absl::StrCat("one of ", absl::StrJoin(target.choices, ", ")));
    }
    *target.value = std::string(text);
    return absl::OkStatus();
  }

  absl::Status Wrong(absl::string_view expected) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "--", flag.name, " must be ", expected, "; got \"", text, "\""));
  }
};

}  // namespace

bool Arguments::Has(absl::string_view name) const {
  return absl::c_any_of(given,
                        [&](const std::string& flag) { return flag == name; });
}

absl::StatusOr<Arguments> ParseFlags(
    absl::Span<const Flag> flags, absl::Span<const absl::string_view> words) {
  Arguments arguments;
  for (absl::string_view word : words) {
    if (word == "--") break;
    if (word == "--help" || word == "-h") arguments.help = true;
  }
  if (arguments.help) return arguments;

  for (size_t i = 0; i < words.size(); ++i) {
    const absl::string_view word = words[i];
    if (word == "--") {
      for (++i; i < words.size(); ++i) {
        arguments.positional.emplace_back(words[i]);
      }
      break;
    }
    // A dash alone is a name for standard input or output.
    if (!absl::StartsWith(word, "-") || word == "-") {
      arguments.positional.emplace_back(word);
      continue;
    }
    if (!absl::StartsWith(word, "--")) {
      return absl::InvalidArgumentError(absl::StrCat(
          "flags begin with two dashes and have long names; got ", word));
    }
    const size_t equals = word.find('=');
    const bool has_value = equals != absl::string_view::npos;
    const absl::string_view name =
        word.substr(2, has_value ? equals - 2 : absl::string_view::npos);
    const auto* const flag =
        absl::c_find_if(flags, [&](const Flag& f) { return f.name == name; });
    if (flag == flags.end()) return UnknownFlag(flags, name);
    if (arguments.Has(name) &&
        !std::holds_alternative<std::vector<std::string>*>(flag->target)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " is there twice"));
    }
    arguments.given.emplace_back(name);

    absl::string_view text = "true";
    if (has_value) {
      text = word.substr(equals + 1);
    } else if (!IsSwitch(*flag)) {
      if (i + 1 == words.size() || absl::StartsWith(words[i + 1], "--")) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--", name, " needs a value: --", name, " ", flag->value));
      }
      text = words[++i];
    }
    absl::Status status = std::visit(Assign{*flag, text}, flag->target);
    if (!status.ok()) return status;
  }
  return arguments;
}

std::string FlagsHelp(absl::Span<const Flag> flags) {
  // "  --name VALUE" in a column, its text beside it.
  constexpr size_t kColumn = 26;
  std::string out;
  for (const Flag& flag : flags) {
    std::string head = absl::StrCat("  --", flag.name);
    if (!flag.value.empty()) absl::StrAppend(&head, " ", flag.value);
    if (head.size() + 2 > kColumn) {
      absl::StrAppend(&out, head, "\n");
      head.clear();
    }
    for (absl::string_view line : absl::StrSplit(flag.help, '\n')) {
      head.resize(kColumn, ' ');
      absl::StrAppend(&out, head, line, "\n");
      head.clear();
    }
  }
  return out;
}

}  // namespace muster
