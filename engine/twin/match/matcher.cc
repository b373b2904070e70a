#include "engine/twin/match/matcher.h"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <utility>

#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/twin/columns/kernels.h"
#include "engine/twin/match/bound_leaf.h"

namespace muster {
namespace {

constexpr int kBlockWords = 64;  // 4,096 rows.

// Shares of rows are measured in the first shards of a query, and in one of
// some from then on: counting costs as much as a cheap leaf.
constexpr int64_t kMeasureFirst = 2;
constexpr int64_t kMeasureEvery = 16;
// Rows from which a measured share is better than a guess.
constexpr double kRowsToKnow = 256;

enum class Verdict : uint8_t { kNone, kAll, kSome };

// Mostly the first words tell.
bool AnyBit(const uint64_t* mask, int words) {
  int i = 0;
  for (; i + 4 <= words; i += 4) {
    if ((mask[i] | mask[i + 1] | mask[i + 2] | mask[i + 3]) != 0) return true;
  }
  for (; i < words; ++i) {
    if (mask[i] != 0) return true;
  }
  return false;
}

int64_t Count(const uint64_t* mask, int words) {
  return static_cast<int64_t>(CountMask(mask, static_cast<size_t>(words)));
}

}  // namespace

void MatchExplanation::Merge(const MatchExplanation& other) {
  shards += other.shards;
  rows_in += other.rows_in;
  rows_out += other.rows_out;
  nanoseconds += other.nanoseconds;
  for (const Step& step : other.steps) {
    const auto mine = std::find_if(
        steps.begin(), steps.end(),
        [&](const Step& s) { return s.condition == step.condition; });
    if (mine == steps.end()) {
      steps.push_back(step);
      continue;
    }
    mine->rows_in += step.rows_in;
    mine->rows_out += step.rows_out;
    mine->values_examined += step.values_examined;
    mine->nanoseconds += step.nanoseconds;
    for (const Form& form : step.forms) {
      const auto known =
          std::find_if(mine->forms.begin(), mine->forms.end(),
                       [&](const Form& f) { return f.text == form.text; });
      if (known == mine->forms.end()) {
        mine->forms.push_back(form);
      } else {
        known->shards += form.shards;
      }
    }
  }
}

class Matcher::Impl {
 public:
  explicit Impl(std::shared_ptr<const Plan> plan);

  void Match(const CellSource& source, RowBitmap* rows);
  void Explain(std::function<int64_t()> nanoseconds) {
    clock_ = std::move(nanoseconds);
  }
  MatchExplanation explanation() const;

 private:
  struct LeafState {
    explicit LeafState(const Plan::Leaf& leaf) : bound(leaf) {}

    BoundLeaf bound;
    std::vector<const Cells*> cells;  // Of its paths.
    int64_t bound_in = -1;            // The shard that it is bound to.
    // For explanations.
    MatchExplanation::Step step;
  };
  struct NodeState {
    const Plan::Node* node = nullptr;
    // Operands, by id.  The first `live` are to be evaluated in this shard, in
    // this order; the others are decided, or nobody asked.
    std::vector<int> operands;
    size_t live = 0;
    double cost = 0;
    double guess = 0.5;
    // Measured: undecided rows that came, and those of them that were selected.
    double rows_in = 0;
    double rows_out = 0;

    double share() const {
      return rows_in < kRowsToKnow ? guess : rows_out / rows_in;
    }
  };

  void AddNode(const Plan::Node& node);
  Verdict Bind(int id);
  Verdict BindLeaf(NodeState* state);
  void SortOperands(NodeState* state);
  // Takes out of the mask the rows that the node does not select.
  void Filter(int id, int first_word, int words, uint64_t* mask);
  void FilterLeaf(const NodeState& state, int first_word, int words,
                  uint64_t* mask);
  void FilterAnd(const NodeState& state, int first_word, int words,
                 uint64_t* mask);
  void FilterOr(const NodeState& state, int first_word, int words,
                uint64_t* mask);
  void NoteForms();
  void CollectSteps(int id, std::vector<bool>* seen,
                    std::vector<MatchExplanation::Step>* steps) const;

  bool explains() const { return clock_ != nullptr; }
  LeafState& LeafOf(const NodeState& state) {
    return leaves_[static_cast<size_t>(state.node->leaf)];
  }

  std::shared_ptr<const Plan> plan_;
  std::deque<LeafState> leaves_;   // They stay where they are.
  std::vector<NodeState> nodes_;   // By id.
  std::vector<Cells> cells_;       // By path.
  std::vector<int64_t> cells_of_;  // The shard that they are of.
  std::function<int64_t()> clock_;

  const CellSource* source_ = nullptr;
  int64_t shard_ = -1;  // Shards before this one.
  bool measures_ = false;
  MatchExplanation total_;
};

Matcher::Impl::Impl(std::shared_ptr<const Plan> plan)
    : plan_(std::move(plan)),
      nodes_(static_cast<size_t>(plan_->node_count())),
      cells_(plan_->paths().size()),
      cells_of_(plan_->paths().size(), -1) {
  for (const Plan::Leaf& leaf : plan_->leaves()) {
    LeafState& state = leaves_.emplace_back(leaf);
    for (const int path : leaf.paths) {
      state.cells.push_back(&cells_[static_cast<size_t>(path)]);
    }
  }
  AddNode(plan_->root());
}

void Matcher::Impl::AddNode(const Plan::Node& node) {
  NodeState& state = nodes_[static_cast<size_t>(node.id)];
  state.node = &node;
  for (const Plan::Node& operand : node.operands) {
    state.operands.push_back(operand.id);
    AddNode(operand);
  }
}

void Matcher::Impl::Match(const CellSource& source, RowBitmap* rows) {
  const int64_t begin = explains() ? clock_() : 0;
  source_ = &source;
  ++shard_;
  measures_ =
      explains() || shard_ < kMeasureFirst || shard_ % kMeasureEvery == 0;
  const int words = (source.row_count() + 63) / 64;
  const int root = plan_->root().id;
  switch (Bind(root)) {
    case Verdict::kNone:
      rows->words.fill(0);
      break;
    case Verdict::kAll:
      *rows = source.rows_in_use();
      break;
    case Verdict::kSome: {
      *rows = source.rows_in_use();
      // Nothing to leave early: in one go.
      const int block = plan_->root().kind == Plan::Node::Kind::kLeaf
                            ? RowBitmap::kWords
                            : kBlockWords;
      for (int w = 0; w < words; w += block) {
        Filter(root, w, std::min(block, words - w), &rows->words[w]);
      }
    }
  }
  if (explains()) {
    ++total_.shards;
    total_.rows_in += Count(source.rows_in_use().words.data(), words);
    total_.rows_out += Count(rows->words.data(), words);
    NoteForms();
    total_.nanoseconds += clock_() - begin;
  }
}

Verdict Matcher::Impl::Bind(int id) {
  NodeState& state = nodes_[static_cast<size_t>(id)];
  switch (state.node->kind) {
    case Plan::Node::Kind::kAll:
      return Verdict::kAll;
    case Plan::Node::Kind::kNone:
      return Verdict::kNone;
    case Plan::Node::Kind::kLeaf:
      return BindLeaf(&state);
    case Plan::Node::Kind::kAnd:
    case Plan::Node::Kind::kOr:
      break;
  }
  // What one operand may say for all.
  const Verdict deciding = state.node->kind == Plan::Node::Kind::kAnd
                               ? Verdict::kNone
                               : Verdict::kAll;
  std::vector<int>& operands = state.operands;
  state.live = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    const Verdict verdict = Bind(operands[i]);
    if (verdict == deciding) {
      // It will do so in the next shard too, perhaps: then it is asked first.
      std::rotate(operands.begin(), operands.begin() + static_cast<long>(i),
                  operands.begin() + static_cast<long>(i) + 1);
      state.live = 0;
      return verdict;
    }
    if (verdict == Verdict::kSome)
      std::swap(operands[state.live++], operands[i]);
  }
  if (state.live == 0) {
    return deciding == Verdict::kNone ? Verdict::kAll : Verdict::kNone;
  }
  SortOperands(&state);
  return Verdict::kSome;
}

Verdict Matcher::Impl::BindLeaf(NodeState* state) {
  LeafState& leaf = LeafOf(*state);
  if (leaf.bound_in != shard_) {
    leaf.bound_in = shard_;
    const int64_t begin = explains() ? clock_() : 0;
    const std::vector<int>& paths =
        plan_->leaves()[static_cast<size_t>(state->node->leaf)].paths;
    for (const int number : paths) {
      const size_t path = static_cast<size_t>(number);
      if (cells_of_[path] == shard_) continue;
      cells_of_[path] = shard_;
      cells_[path] = source_->FindCells(plan_->paths()[path]);
    }
    leaf.bound.Bind(*source_, leaf.cells);
    if (explains()) leaf.step.nanoseconds += clock_() - begin;
  }
  switch (leaf.bound.form()) {
    case BoundLeaf::Form::kNone:
      return Verdict::kNone;
    case BoundLeaf::Form::kAll:
      return Verdict::kAll;
    default:
      break;
  }
  state->cost = leaf.bound.cost();
  state->guess = leaf.bound.guess();
  return Verdict::kSome;
}

// The optimal order for independent operands is that of cost / (share of rows
// decided) (M. Z. Hanani, "An optimal evaluation of Boolean expressions in an
// online query system", 1977).
void Matcher::Impl::SortOperands(NodeState* state) {
  const bool is_and = state->node->kind == Plan::Node::Kind::kAnd;
  const auto decided = [&](int id) {
    const double share = nodes_[static_cast<size_t>(id)].share();
    return std::max(is_and ? 1 - share : share, 1e-4);
  };
  const auto rank = [&](int id) {
    return nodes_[static_cast<size_t>(id)].cost / decided(id);
  };
  // By insertion: few, and mostly sorted already.
  std::vector<int>& operands = state->operands;
  for (size_t i = 1; i < state->live; ++i) {
    const int id = operands[i];
    const double its_rank = rank(id);
    size_t at = i;
    for (; at > 0 && rank(operands[at - 1]) > its_rank; --at) {
      operands[at] = operands[at - 1];
    }
    operands[at] = id;
  }
  double undecided = 1;
  state->cost = 0;
  for (size_t i = 0; i < state->live; ++i) {
    state->cost += undecided * nodes_[static_cast<size_t>(operands[i])].cost;
    undecided *= 1 - decided(operands[i]);
  }
  state->guess = is_and ? undecided : 1 - undecided;
}

void Matcher::Impl::Filter(int id, int first_word, int words, uint64_t* mask) {
  NodeState& state = nodes_[static_cast<size_t>(id)];
  if (measures_) {
    state.rows_in += static_cast<double>(Count(mask, words));
  }
  switch (state.node->kind) {
    case Plan::Node::Kind::kLeaf:
      FilterLeaf(state, first_word, words, mask);
      break;
    case Plan::Node::Kind::kAnd:
      FilterAnd(state, first_word, words, mask);
      break;
    case Plan::Node::Kind::kOr:
      FilterOr(state, first_word, words, mask);
      break;
    case Plan::Node::Kind::kAll:
    case Plan::Node::Kind::kNone:
      MUSTER_CHECK(false && "decided when it was bound");
  }
  if (measures_) {
    state.rows_out += static_cast<double>(Count(mask, words));
  }
}

void Matcher::Impl::FilterLeaf(const NodeState& state, int first_word,
                               int words, uint64_t* mask) {
  LeafState& leaf = LeafOf(state);
  if (!explains()) {
    leaf.bound.Apply(first_word, words, mask);
    return;
  }
  leaf.step.rows_in += Count(mask, words);
  const int64_t begin = clock_();
  leaf.bound.Apply(first_word, words, mask);
  leaf.step.nanoseconds += clock_() - begin;
  leaf.step.rows_out += Count(mask, words);
}

void Matcher::Impl::FilterAnd(const NodeState& state, int first_word, int words,
                              uint64_t* mask) {
  for (size_t i = 0; i < state.live; ++i) {
    Filter(state.operands[i], first_word, words, mask);
    if (!AnyBit(mask, words)) return;
  }
}

void Matcher::Impl::FilterOr(const NodeState& state, int first_word, int words,
                             uint64_t* mask) {
  uint64_t undecided[kBlockWords];
  uint64_t selected[kBlockWords];
  std::copy_n(mask, words, undecided);
  std::fill_n(mask, words, 0);
  for (size_t i = 0; i < state.live; ++i) {
    std::copy_n(undecided, words, selected);
    Filter(state.operands[i], first_word, words, selected);
    uint64_t left = 0;
    for (int w = 0; w < words; ++w) {
      mask[w] |= selected[w];
      undecided[w] &= ~selected[w];
      left |= undecided[w];
    }
    if (left == 0) return;
  }
}

void Matcher::Impl::NoteForms() {
  for (LeafState& leaf : leaves_) {
    if (leaf.bound_in != shard_) continue;
    const std::string text = leaf.bound.FormText();
    std::vector<MatchExplanation::Form>& forms = leaf.step.forms;
    const auto known =
        std::find_if(forms.begin(), forms.end(),
                     [&](const auto& form) { return form.text == text; });
    if (known == forms.end()) {
      forms.push_back({.text = text, .shards = 1});
    } else {
      ++known->shards;
    }
  }
}

MatchExplanation Matcher::Impl::explanation() const {
  MatchExplanation explanation = total_;
  std::vector<bool> seen(leaves_.size());
  CollectSteps(plan_->root().id, &seen, &explanation.steps);
  return explanation;
}

void Matcher::Impl::CollectSteps(
    int id, std::vector<bool>* seen,
    std::vector<MatchExplanation::Step>* steps) const {
  const NodeState& state = nodes_[static_cast<size_t>(id)];
  for (const int operand : state.operands) CollectSteps(operand, seen, steps);
  if (state.node->kind != Plan::Node::Kind::kLeaf) return;
  const size_t number = static_cast<size_t>(state.node->leaf);
  if ((*seen)[number]) return;
  (*seen)[number] = true;
  MatchExplanation::Step& step = steps->emplace_back(leaves_[number].step);
  step.condition = plan_->LeafText(plan_->leaves()[number]);
  step.values_examined = leaves_[number].bound.values_examined();
}

Matcher::Matcher(std::shared_ptr<const Plan> plan)
    : impl_(std::make_unique<Impl>(std::move(plan))) {}
Matcher::~Matcher() = default;
Matcher::Matcher(Matcher&&) noexcept = default;
Matcher& Matcher::operator=(Matcher&&) noexcept = default;

void Matcher::Match(const CellSource& source, RowBitmap* rows) {
  impl_->Match(source, rows);
}

void Matcher::Explain(std::function<int64_t()> nanoseconds) {
  impl_->Explain(std::move(nanoseconds));
}

MatchExplanation Matcher::explanation() const { return impl_->explanation(); }

}  // namespace muster
