#include "transport/grpc/gateway/handle_table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/model/check.h"

namespace muster {

HandleTable::HandleTable(uint16_t serial, uint16_t first_generation,
                         int devices_max)
    : serial_(serial),
      first_generation_(first_generation),
      devices_max_(static_cast<uint32_t>(devices_max)) {
  MUSTER_CHECK(serial >= 1);
  MUSTER_CHECK(devices_max >= 1 && devices_max <= 1 << 24);
}

uint32_t HandleTable::Attach(absl::string_view id) {
  MUSTER_CHECK(!id.empty() && id.size() <= kIdSizeMax);
  if (static_cast<uint32_t>(size_) >= devices_max_) return 0;
  uint32_t handle;
  if (!free_.empty()) {
    handle = free_.front();
    free_.pop_front();
  } else {
    if (generations_.size() % kPageHandles == 0) {
      pages_.push_back(std::make_unique<Page>());
    }
    if (generations_.size() == generations_.capacity()) {
      // By a quarter: doubled, the room not used would be 2 bytes for each.
      generations_.reserve(generations_.size() + generations_.size() / 4 + 16);
    }
    generations_.push_back(first_generation_);
    handle = static_cast<uint32_t>(generations_.size());
  }
  ++size_;
  Page& page = *pages_[(handle - 1) / kPageHandles];
  MakeRoom(&page, static_cast<uint32_t>(id.size()));
  Entry& entry = EntryOf(handle);
  entry = {.begin = page.used,
           .size = static_cast<uint8_t>(id.size()),
           .state = State::kAttached};
  std::memcpy(page.bytes.get() + page.used, id.data(), id.size());
  page.used += static_cast<uint16_t>(id.size());
  return handle;
}

// Room for `size` more bytes: in what is wasted, or behind.
void HandleTable::MakeRoom(Page* page, uint32_t size) {
  if (page->used + size <= page->capacity) return;
  const uint32_t live = page->used - page->wasted;
  uint32_t capacity = page->capacity;
  while (live + size > capacity) capacity += kPageGrowth;
  MUSTER_CHECK(capacity <= UINT16_MAX);
  auto bytes = std::make_unique<char[]>(capacity);
  uint16_t used = 0;
  for (Entry& entry : page->entries) {
    if (entry.state == State::kFree) continue;
    std::memcpy(bytes.get() + used, page->bytes.get() + entry.begin,
                entry.size);
    entry.begin = used;
    used += entry.size;
  }
  MUSTER_CHECK(used == live);
  page->bytes = std::move(bytes);
  page->capacity = static_cast<uint16_t>(capacity);
  page->used = used;
  page->wasted = 0;
}

absl::string_view HandleTable::id(uint32_t handle) const {
  const Entry& entry = EntryOf(handle);
  return {pages_[(handle - 1) / kPageHandles]->bytes.get() + entry.begin,
          entry.size};
}

HandleTable::State HandleTable::state(uint32_t handle) const {
  if (handle == 0 || handle >= end()) return State::kFree;
  return EntryOf(handle).state;
}

bool HandleTable::IsDropped(uint64_t link) const {
  const LinkParts parts = SplitLink(link);
  return state(parts.handle) == State::kDropped &&
         generations_[parts.handle - 1] ==
             static_cast<uint16_t>(parts.generation + 1);
}

bool HandleTable::Drop(uint64_t link) {
  if (!IsGood(link)) return false;
  const uint32_t handle = SplitLink(link).handle;
  EntryOf(handle).state = State::kDropped;
  Advance(handle);
  return true;
}

void HandleTable::Free(uint32_t handle) {
  Entry& entry = EntryOf(handle);
  MUSTER_CHECK(entry.state != State::kFree);
  if (entry.state == State::kAttached) Advance(handle);
  entry.state = State::kFree;
  Page& page = *pages_[(handle - 1) / kPageHandles];
  page.wasted += entry.size;
  if (page.wasted == page.used) page.used = page.wasted = 0;
  free_.push_back(handle);
  --size_;
}

void HandleTable::Advance(uint32_t handle) {
  const uint16_t generation = ++generations_[handle - 1];
  generations_used_ = std::max(
      generations_used_, static_cast<uint16_t>(generation - first_generation_));
}

size_t HandleTable::memory() const {
  size_t bytes = generations_.capacity() * sizeof(generations_[0]) +
                 pages_.capacity() * sizeof(pages_[0]) +
                 free_.size() * sizeof(uint32_t);
  for (const auto& page : pages_) bytes += sizeof(Page) + page->capacity;
  return bytes;
}

}  // namespace muster
