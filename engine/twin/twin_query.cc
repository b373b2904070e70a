// TwinIndex::Query(): pages of a statement, without state between them.
//
// Rows come in ascending order of deviceId, but live in order of arrival.  A
// page therefore looks for the page_size smallest ids behind its position that
// satisfy the condition, and keeps no more than those at any time:
//
//   look    match the condition shard by shard, and keep the smallest of the
//           ids in a heap.
//   write   take each of them up again in order and write it out, if it still
//           is there and still satisfies the condition.
//
// A device that goes between the two makes the page shorter, which the contract
// allows (4.5).  The position is the last id looked at, shown or not.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/query/page_token.h"
#include "engine/twin/twin_document.h"
#include "engine/twin/twin_index.h"

namespace muster {
namespace {

// Rows that are read out under one lock: some 100 us at most.
constexpr int kRowsPerLock = 256;

struct Found {
  std::string id;
  Shard* shard;
  int row;

  friend bool operator<(const Found& a, const Found& b) { return a.id < b.id; }
};

// The `count_max` smallest of the ids that it is offered.
class SmallestIds {
 public:
  explicit SmallestIds(size_t count_max) : count_max_(count_max) {}

  // Whether Add() would keep it.
  bool Wants(absl::string_view id) const {
    return heap_.size() < count_max_ || id < heap_.front().id;
  }
  void Add(absl::string_view id, Shard* shard, int row) {
    if (heap_.size() == count_max_) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
    }
    heap_.push_back({std::string(id), shard, row});
    std::push_heap(heap_.begin(), heap_.end());
  }
  // In ascending order.
  std::vector<Found> Take() && {
    std::sort_heap(heap_.begin(), heap_.end());
    return std::move(heap_);
  }

 private:
  const size_t count_max_;
  std::vector<Found> heap_;  // The largest in front.
};

// What a continuation says; of a first page if it is empty.
absl::StatusOr<PageToken> Position(const Statement& statement,
                                   absl::string_view continuation) {
  PageToken token;
  token.collection = std::string(CollectionName(statement.collection()));
  token.statement_hash = statement.hash();
  if (continuation.empty()) return token;
  absl::StatusOr<PageToken> given =
      DecodePageToken(continuation, token.collection, token.statement_hash);
  if (!given.ok()) return given.status();
  const size_t keys = statement.is_aggregate() ? 0 : 1;
  if (given->last_key.size() != keys) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     "the continuation is no position in this statement");
  }
  return given;
}

}  // namespace

absl::StatusOr<TwinPage> TwinIndex::Query(
    const Statement& statement, int page_size,
    absl::string_view continuation) const {
  if (statement.collection() != Collection::kDevices) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("twins are in the collection devices; the "
                                  "statement is on ",
                                  CollectionName(statement.collection())));
  }
  if (page_size < 1 || page_size > kTwinPageSizeMax) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("page_size must be in [1, ", kTwinPageSizeMax,
                                  "]; got ", page_size));
  }
  TwinPage page;
  page.item_type = std::string(statement.item_type());
  absl::Status status =
      statement.is_aggregate()
          ? QueryAggregates(statement, page_size, continuation, &page)
          : QueryRows(statement, page_size, continuation, &page);
  if (!status.ok()) return status;
  return page;
}

absl::Status TwinIndex::QueryRows(const Statement& statement, int page_size,
                                  absl::string_view continuation,
                                  TwinPage* page) const {
  absl::StatusOr<PageToken> token = Position(statement, continuation);
  if (!token.ok()) return token.status();
  const bool is_first = token->last_key.empty();
  const std::string after = is_first ? std::string() : token->last_key[0];
  int64_t limit = page_size;
  if (statement.top().has_value()) {
    limit = std::min(limit, *statement.top() - token->rows_given);
    if (limit <= 0) return absl::OkStatus();
  }

  // One more than the page takes says whether there is another.
  SmallestIds smallest(static_cast<size_t>(limit) + 1);
  Match(
      statement.condition().value_or(Condition::MatchAll(Collection::kDevices)),
      [&](int index, const RowBitmap& rows) {
        Shard& s = shard(index);
        absl::ReaderMutexLock lock(&s.mutex);
        rows.ForEach([&](int row) {
          const absl::string_view id = s.IdForTable(row);
          // Some may have gone since.
          if (id.empty() || (!is_first && id <= after)) return;
          if (smallest.Wants(id)) smallest.Add(id, &s, row);
        });
      });

  std::vector<Found> found = std::move(smallest).Take();
  const bool more = static_cast<int64_t>(found.size()) > limit;
  if (more) found.pop_back();
  TwinDocument document;
  for (const Found& f : found) {
    absl::ReaderMutexLock lock(&f.shard->mutex);
    if (f.shard->IdForTable(f.row) != f.id) continue;
    document.Reset(f.shard, f.row);
    if (!statement.Matches(document)) continue;
    if (statement.is_select_all()) {
      std::string& text = page->rows.emplace_back();
      AppendTwinJson(document.Full().view(), &text);
    } else {
      page->rows.push_back(statement.ProjectRow(document));
    }
  }
  token->rows_given += static_cast<int64_t>(page->rows.size());
  if (more && token->rows_given < statement.top().value_or(INT64_MAX)) {
    token->last_key = {std::move(found.back().id)};
    page->continuation = EncodePageToken(*token);
  }
  return absl::OkStatus();
}

absl::Status TwinIndex::QueryAggregates(const Statement& statement,
                                        int page_size,
                                        absl::string_view continuation,
                                        TwinPage* page) const {
  absl::StatusOr<PageToken> token = Position(statement, continuation);
  if (!token.ok()) return token.status();
  Aggregator aggregator(statement);
  TwinDocument document;
  absl::Status status;
  Match(
      statement.condition().value_or(Condition::MatchAll(Collection::kDevices)),
      [&](int index, const RowBitmap& rows) {
        if (!status.ok()) return;
        if (statement.is_count()) {
          aggregator.AddCount(rows.Count());
          return;
        }
        const Shard& s = shard(index);
        // The lock is let go now and then: adding a row takes its time.
        for (int first = 0; first < kShardRowsMax; first += kRowsPerLock) {
          absl::ReaderMutexLock lock(&s.mutex);
          for (int row = first; row < first + kRowsPerLock; ++row) {
            if (!rows.Test(row) || !s.rows_in_use().Test(row)) continue;
            document.Reset(&s, row);
            // It may have changed since.
            if (!statement.Matches(document)) continue;
            status.Update(aggregator.Add(document));
            if (!status.ok()) return;
          }
        }
      });
  if (!status.ok()) return status;
  std::vector<std::string> all = aggregator.Rows();
  const size_t first =
      std::min(static_cast<size_t>(token->rows_given), all.size());
  const size_t last =
      std::min(first + static_cast<size_t>(page_size), all.size());
  page->rows.assign(std::make_move_iterator(all.begin() + first),
                    std::make_move_iterator(all.begin() + last));
  if (last < all.size()) {
    token->rows_given = static_cast<int64_t>(last);
    page->continuation = EncodePageToken(*token);
  }
  return absl::OkStatus();
}

}  // namespace muster
