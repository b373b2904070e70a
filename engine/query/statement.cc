#include "engine/query/statement.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/evaluator.h"
#include "engine/query/page_token.h"
#include "engine/query/parse_error.h"
#include "engine/query/parser.h"

namespace muster {
namespace {

// The last named step, in canonical spelling: tags.colors[0] is "colors".
std::string LastName(const Path& path) {
  for (size_t i = path.steps.size(); i > 0; --i) {
    if (!path.steps[i - 1].index.has_value()) return path.steps[i - 1].name;
  }
  const absl::string_view root = RootName(path.root);
  const size_t dot = root.rfind('.');
  return std::string(dot == absl::string_view::npos ? root
                                                    : root.substr(dot + 1));
}

// Whole numbers are written without a fraction, however they were computed.
void WriteNumber(double number, JsonWriter* writer) {
  if (number == std::trunc(number) && std::fabs(number) <= 0x1p53) {
    writer->Int(static_cast<int64_t>(number));
  } else {
    writer->Double(number);
  }
}

// Contract 5.2 and 5.12: what goes together.
absl::Status CheckParts(const ParsedStatement& parsed, bool has_aggregates) {
  const std::optional<GroupBy>& group_by = parsed.group_by;
  if (!group_by.has_value()) {
    for (const Projection& projection : parsed.projections) {
      if (has_aggregates && !projection.aggregate.has_value()) {
        return MakeParseError(
            projection.position,
            "found a member beside aggregates, expected GROUP BY it, or "
            "aggregates only");
      }
    }
    return absl::OkStatus();
  }
  if (parsed.collection == Collection::kDeviceJobs) {
    return MakeParseError(group_by->position,
                          "found GROUP BY: devices.jobs cannot be grouped");
  }
  if (parsed.projections.empty()) {
    return MakeParseError(parsed.select_position,
                          "found *, expected the member of GROUP BY or "
                          "aggregates");
  }
  for (const Projection& projection : parsed.projections) {
    if (!projection.aggregate.has_value() &&
        !(projection.path == group_by->path)) {
      return MakeParseError(
          projection.position,
          absl::StrCat("found ", Excerpt(PathText(projection.path)),
                       ", expected the member of GROUP BY, which is ",
                       Excerpt(PathText(group_by->path)), ", or an aggregate"));
    }
  }
  return absl::OkStatus();
}

// A value in a projected row, or undefined.  `*full` is made when it is needed:
// sections as a whole, and what is above them, are spread over several roots.
JsonView ProjectedValue(const Path& path, const Document& document,
                        std::optional<Json>* full) {
  if (path.root == Root::kNone) return JsonView();
  const bool spread = path.steps.empty() && (path.root == Root::kProperties ||
                                             path.root == Root::kDesired ||
                                             path.root == Root::kReported);
  JsonView view;
  if (spread) {
    if (!full->has_value()) *full = document.Full();
    view = (*full)->view().Find("properties");
    if (path.root == Root::kDesired) view = view.Find("desired");
    if (path.root == Root::kReported) view = view.Find("reported");
  } else {
    view = document.Get(path.root);
  }
  for (const PathStep& step : path.steps) {
    view = step.index.has_value() ? view.At(*step.index) : view.Find(step.name);
  }
  return view;
}

}  // namespace

absl::StatusOr<Statement> Statement::Parse(absl::string_view text,
                                           const QueryOptions& options) {
  absl::StatusOr<ParsedStatement> parsed = ParseStatementText(text, options);
  if (!parsed.ok()) return parsed.status();

  auto rep = std::make_shared<Rep>();
  rep->text = std::string(text);
  rep->hash = HashForPageToken(text);
  rep->collection = parsed->collection;
  rep->top = parsed->top;
  const bool has_aggregates =
      std::any_of(parsed->projections.begin(), parsed->projections.end(),
                  [](const Projection& p) { return p.aggregate.has_value(); });
  rep->is_aggregate = has_aggregates || parsed->group_by.has_value();

  absl::Status checked = CheckParts(*parsed, has_aggregates);
  if (!checked.ok()) return checked;

  absl::flat_hash_set<std::string> names;
  int unnamed_aggregates = 0;
  for (Projection& projection : parsed->projections) {
    Column column;
    column.aggregate = projection.aggregate;
    column.path = std::move(projection.path);
    if (!projection.alias.empty()) {
      column.name = std::move(projection.alias);
    } else if (column.aggregate.has_value()) {
      column.name = absl::StrCat("$", ++unnamed_aggregates);
    } else {
      column.name = LastName(column.path);
    }
    if (!names.insert(column.name).second) {
      return MakeParseError(
          projection.position,
          absl::StrCat("found a second column named ", Quoted(column.name),
                       ", expected another name; give it one with AS"));
    }
    rep->columns.push_back(std::move(column));
  }
  if (parsed->condition.has_value()) {
    rep->condition = Condition(std::make_shared<const Condition::Rep>(
        Condition::Rep{std::move(parsed->condition_text), rep->collection,
                       std::move(parsed->condition)}));
  }
  if (std::optional<GroupBy>& group_by = parsed->group_by) {
    rep->group_by = std::move(group_by->path);
  }
  return Statement(std::move(rep));
}

absl::string_view Statement::item_type() const {
  if (!is_select_all()) return "Raw";
  return collection() == Collection::kDevices ? "Twin" : "DeviceJob";
}

bool Statement::is_count() const {
  if (!rep_->is_aggregate || rep_->group_by.has_value()) return false;
  for (const Column& column : rep_->columns) {
    if (column.aggregate != AggregateFunction::kCount) return false;
  }
  return true;
}

bool Statement::Matches(const Document& document) const {
  const std::optional<Condition>& condition = rep_->condition;
  return !condition.has_value() || condition->Matches(document);
}

std::string Statement::ProjectRow(const Document& document) const {
  MUSTER_CHECK(!is_select_all() && !is_aggregate());
  std::string out;
  JsonWriter writer(&out);
  std::optional<Json> full;
  writer.BeginObject();
  for (const Column& column : rep_->columns) {
    const JsonView value = ProjectedValue(column.path, document, &full);
    if (!value.is_undefined()) writer.Key(column.name).Value(value);
  }
  writer.EndObject();
  return out;
}

bool Aggregator::GroupKey::operator<(const GroupKey& other) const {
  // JsonKind enumerates the kinds in the order of rows.
  return std::tie(kind, number, text) <
         std::tie(other.kind, other.number, other.text);
}

Aggregator::Aggregator(Statement statement) : statement_(std::move(statement)) {
  MUSTER_CHECK(statement_.is_aggregate());
  // Without GROUP BY there is one group, of no rows at first.
  if (!statement_.rep_->group_by.has_value()) FindOrAdd(GroupKey());
}

Aggregator::Group* Aggregator::FindOrAdd(GroupKey key) {
  const auto found = groups_.find(key);
  if (found != groups_.end()) return &found->second;
  const size_t columns = statement_.rep_->columns.size();
  if (groups_.size() == kQueryGroupsMax ||
      (groups_.size() + 1) * columns > kQueryGroupCellsMax ||
      key.text.size() > kQueryGroupBytesMax - group_bytes_) {
    return nullptr;
  }
  group_bytes_ += key.text.size();
  return &groups_.emplace(std::move(key), Group(columns)).first->second;
}

absl::Status Aggregator::TooManyGroups() {
  return MakeError(
      ErrorCode::kArgumentInvalid,
      absl::StrCat("GROUP BY makes more than ", kQueryGroupsMax, " groups, ",
                   kQueryGroupCellsMax, " values in their columns, or ",
                   kQueryGroupBytesMax, " bytes of names of groups"));
}

absl::Status Aggregator::Add(const Document& document) {
  Scratch scratch;
  GroupKey key;
  if (const std::optional<Path>& path = statement_.rep_->group_by) {
    const Value value = EvaluatePath(*path, document, &scratch);
    if (value.is_primitive()) key.kind = value.kind();
    // Adding zero makes one of -0 and 0.
    if (value.is_number()) key.number = value.number_value() + 0.0;
    if (value.is_bool()) key.number = value.bool_value() ? 1 : 0;
    if (value.is_string()) key.text = std::string(value.string_value());
  }
  Group* group = FindOrAdd(std::move(key));
  if (group == nullptr) return TooManyGroups();
  for (size_t i = 0; i < group->size(); ++i) {
    const Statement::Column& column = statement_.rep_->columns[i];
    if (!column.aggregate.has_value()) continue;
    Cell& cell = (*group)[i];
    if (column.aggregate == AggregateFunction::kCount) {
      ++cell.count;
      continue;
    }
    const Value value = EvaluatePath(column.path, document, &scratch);
    if (!value.is_number()) continue;
    const double number = value.number_value();
    cell.min = cell.count == 0 ? number : std::min(cell.min, number);
    cell.max = cell.count == 0 ? number : std::max(cell.max, number);
    ++cell.count;
    if (column.aggregate == AggregateFunction::kSum ||
        column.aggregate == AggregateFunction::kAvg) {
      cell.sum.Add(number);
    }
  }
  return absl::OkStatus();
}

void Aggregator::AddCount(int64_t rows) {
  MUSTER_DCHECK(statement_.is_count());
  for (Cell& cell : *FindOrAdd(GroupKey())) cell.count += rows;
}

absl::Status Aggregator::Merge(const Aggregator& other) {
  MUSTER_CHECK(other.statement_.text() == statement_.text());
  for (const auto& [key, theirs] : other.groups_) {
    Group* ours = FindOrAdd(key);
    if (ours == nullptr) return TooManyGroups();
    for (size_t i = 0; i < theirs.size(); ++i) {
      const Cell& from = theirs[i];
      Cell& cell = (*ours)[i];
      if (from.count == 0) continue;
      cell.min = cell.count == 0 ? from.min : std::min(cell.min, from.min);
      cell.max = cell.count == 0 ? from.max : std::max(cell.max, from.max);
      cell.count += from.count;
      cell.sum.Merge(from.sum);
    }
  }
  return absl::OkStatus();
}

void Aggregator::WriteCell(AggregateFunction function, absl::string_view name,
                           const Cell& cell, JsonWriter* writer) {
  double number = 0;
  switch (function) {
    case AggregateFunction::kCount:
      writer->Key(name).Int(cell.count);
      return;
    case AggregateFunction::kSum:
      if (const std::optional<int64_t> whole = cell.sum.WholeSum()) {
        writer->Key(name).Int(*whole);
        return;
      }
      number = cell.sum.Round();
      break;
    case AggregateFunction::kAvg:
      number = cell.sum.Round() / static_cast<double>(cell.count);
      break;
    case AggregateFunction::kMin:
      number = cell.min;
      break;
    case AggregateFunction::kMax:
      number = cell.max;
      break;
  }
  // Left out: a value of no numbers, and one that JSON cannot hold.
  if (cell.count == 0 || !std::isfinite(number)) return;
  WriteNumber(number, &writer->Key(name));
}

void Aggregator::WriteGroupKey(const GroupKey& key, absl::string_view name,
                               JsonWriter* writer) {
  switch (key.kind) {
    case JsonKind::kNull:
      writer->Key(name).Null();
      return;
    case JsonKind::kBool:
      writer->Key(name).Bool(key.number != 0);
      return;
    case JsonKind::kNumber:
      WriteNumber(key.number, &writer->Key(name));
      return;
    case JsonKind::kString:
      writer->Key(name).String(key.text);
      return;
    default:
      return;  // The group "missing" has no such member.
  }
}

std::vector<std::string> Aggregator::Rows() const {
  std::vector<std::string> rows;
  for (const auto& [key, group] : groups_) {
    const std::optional<int64_t> top = statement_.top();
    if (top.has_value() && static_cast<int64_t>(rows.size()) >= *top) break;
    JsonWriter writer(&rows.emplace_back());
    writer.BeginObject();
    for (size_t i = 0; i < group.size(); ++i) {
      const Statement::Column& column = statement_.rep_->columns[i];
      if (column.aggregate.has_value()) {
        WriteCell(*column.aggregate, column.name, group[i], &writer);
      } else {
        WriteGroupKey(key, column.name, &writer);
      }
    }
    writer.EndObject();
  }
  return rows;
}

}  // namespace muster
