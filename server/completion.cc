#include "server/completion.h"

#include <string>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/flags.h"

namespace muster {
namespace {

// bash takes an equals sign for a word of its own; here it is a space.  `line`
// is what stands before the word that is completed.
constexpr absl::string_view kHead = R"(_muster() {
  local cur=${COMP_WORDS[COMP_CWORD]} words=
  local before=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  if [[ $cur == = ]]; then
    cur=
  elif ((COMP_CWORD > 1)) && [[ ${before[-1]} == = ]]; then
    unset 'before[-1]'
  fi
  local line="${before[*]}"
  line=${line#help }
  case $line in
)";

// Where a file is meant the function has returned: with no answer, for which
// `-o default` takes files.
constexpr absl::string_view kTail = R"(  esac
  compopt +o default 2> /dev/null
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _muster muster ./muster
)";

bool TakesFile(absl::string_view value) {
  return value == "FILE" || value == "DIR";
}

// Behind a flag that wants a value: `'run '*' --profile') words=... ;;`.
std::string FlagCases(absl::string_view name, absl::Span<const Flag> flags) {
  std::string out;
  for (const Flag& flag : flags) {
    if (std::holds_alternative<bool*>(flag.target)) continue;
    absl::StrAppend(&out, "    '", name, " '*'--", flag.name, "') ");
    const auto* const choice = std::get_if<ChoiceFlag>(&flag.target);
    if (choice != nullptr) {
      absl::StrAppend(&out, "words='", absl::StrJoin(choice->choices, " "),
                      "' ;;\n");
    } else {
      absl::StrAppend(&out, TakesFile(flag.value) ? "return ;;\n" : ";;\n");
    }
  }
  return out;
}

// The second words of names that begin with `name`.
std::vector<absl::string_view> SecondWords(
    absl::string_view name, absl::Span<const Command* const> commands) {
  std::vector<absl::string_view> words;
  for (const Command* command : commands) {
    if (absl::StartsWith(command->name, absl::StrCat(name, " "))) {
      words.push_back(command->name.substr(name.size() + 1));
    }
  }
  return words;
}

std::string Cases(const Command& command,
                  absl::Span<const Command* const> commands) {
  const absl::string_view name = command.name;
  const std::string second = absl::StrJoin(SecondWords(name, commands), " ");
  if (command.invoke == nullptr) {
    return absl::StrCat("    '", name, "') words='", second, "' ;;\n");
  }
  const std::vector<Flag> flags = command.invoke()->Flags();
  std::string out = FlagCases(name, flags);
  absl::StrAppend(&out, "    '", name, "' | '", name, " '*)\n      words='");
  for (const Flag& flag : flags) absl::StrAppend(&out, "--", flag.name, " ");
  absl::StrAppend(&out, "--help'\n");
  const absl::string_view instead =
      command.choices.empty() ? absl::string_view(second) : command.choices;
  if (command.words_max > 0 && instead.empty()) {
    absl::StrAppend(&out, "      [[ $cur == -* ]] || return ;;\n");
  } else {
    absl::StrAppend(&out, "      [[ $cur == -* ]] || words='", instead,
                    "' ;;\n");
  }
  return out;
}

}  // namespace

std::string BashCompletion(absl::Span<const Command* const> commands) {
  std::vector<absl::string_view> first = {"help", "version"};
  for (const Command* command : commands) {
    if (!absl::StrContains(command->name, ' ')) first.push_back(command->name);
  }
  std::string out = absl::StrCat(kHead, "    '' | help) words='",
                                 absl::StrJoin(first, " "), "' ;;\n");
  // Of "fleet simulate" and "fleet" the longer one is looked at first.
  for (const bool has_space : {true, false}) {
    for (const Command* command : commands) {
      if (absl::StrContains(command->name, ' ') == has_space) {
        absl::StrAppend(&out, Cases(*command, commands));
      }
    }
  }
  absl::StrAppend(&out, kTail);
  return out;
}

}  // namespace muster
