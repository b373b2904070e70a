// Condition: which rows are meant?
//
//   auto condition = Condition::ParseJobCondition(
//       "tags.location.region = 'US' AND NOT is_defined(tags.retired)");
//   if (!condition.ok()) return condition.status();
//   if (condition->Matches(row)) ...
//
// The language is that of contract 5.3 to 5.8.  Evaluate() and Matches() are
// the reference evaluator: it reads row by row, is slow and obviously right,
// and every faster plan has to agree with it.
#ifndef ENGINE_QUERY_CONDITION_H_
#define ENGINE_QUERY_CONDITION_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/query/ast.h"
#include "engine/query/document.h"
#include "engine/query/options.h"
#include "engine/query/value.h"

namespace muster {

// A parsed condition.  Immutable and thread-safe; copies share the parsed form
// and cost one reference count.
class Condition {
 public:
  // Parses what follows WHERE in a query over `collection`.  Takes time linear
  // in the text, which is refused unread beyond kQueryLengthMax code points.
  //
  // ArgumentInvalid (400004) with "line:column: found ..., expected ..." if the
  // text is not a condition of the language, exceeds one of its limits, calls a
  // function outside the profile, or names a member that `collection` refuses.
  // Lines and columns count from 1, columns in code points.
  static absl::StatusOr<Condition> Parse(absl::string_view text,
                                         Collection collection,
                                         const QueryOptions& options = {});

  // Parses the `queryCondition` of a job: a condition over devices, or `*`.
  // Errors as Parse(); also for a leading SELECT or WHERE, and for the form
  // `FROM devices.modules WHERE ...`, since module twins are not supported.
  static absl::StatusOr<Condition> ParseJobCondition(
      absl::string_view text, const QueryOptions& options = {});

  // The condition that every row of `collection` satisfies.
  static Condition MatchAll(Collection collection);

  // The condition's value for one row.  It may point into `document`, into
  // this condition and into `*scratch`, and lives as long as all three.
  // Allocates nothing unless a function makes a string or a path stops at
  // `properties`.  REQUIRES: `document` is a row of collection().
  Value Evaluate(const Document& document, Scratch* scratch) const;

  // Whether the row is selected: iff the condition's value is boolean true.
  bool Matches(const Document& document) const;

  // Whether the condition is `*`.
  bool matches_all() const { return expr() == nullptr; }

  // As it was given.
  const std::string& text() const { return rep_->text; }
  Collection collection() const { return rep_->collection; }

  // The parsed form, nullptr for `*`; lives as long as any copy of this.
  const Expr* expr() const {
    const std::optional<Expr>& expr = rep_->expr;
    return expr.has_value() ? &*expr : nullptr;
  }

  // Values of `root` outside of which no row can satisfy the condition, sorted
  // and without repetition; nullopt if the condition does not bound them.  So
  // `deviceId IN ['b','a'] AND tags.x = 1` reads two rows instead of all.
  //
  //   deviceId = 'a'                          {a}
  //   'a' = deviceId AND tags.x = 1           {a}
  //   deviceId IN ['b', 'a', 7, 'b']          {a, b}   a root holds strings
  //   only deviceId = 'a' AND deviceId = 'b'       {}       nothing can match
  //   deviceId = 'a' OR deviceId = 'b'        {a, b}
  //   deviceId = 'a' OR tags.x = 1            nullopt
  //   NOT deviceId != 'a'                     nullopt  not worth the code
  //
  // `*exact`, if given: whether each row with one of these values satisfies it,
  // so that `deviceId IN ['b','a']` need not be asked of the two rows again.
  // REQUIRES: every row has a string at `root`, or nothing.
  std::optional<std::vector<std::string>> Candidates(
      Root root, bool* exact = nullptr) const;

 private:
  struct Rep {
    std::string text;
    Collection collection;
    std::optional<Expr> expr;
  };
  explicit Condition(std::shared_ptr<const Rep> rep) : rep_(std::move(rep)) {}
  friend class Statement;

  std::shared_ptr<const Rep> rep_;
};

// The `failureReason` of a job whose condition turned out broken when it was
// due (contract 2.11): a fixed beginning, then the error with its column
// counted in `SELECT * FROM devices WHERE ` + condition.
// REQUIRES: `error` came from Condition::ParseJobCondition(); PrefixError() may
// have been at it.
std::string FailureReason(const absl::Status& error);

}  // namespace muster

#endif  // ENGINE_QUERY_CONDITION_H_
