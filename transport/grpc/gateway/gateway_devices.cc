#include "transport/grpc/gateway/gateway_devices.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/numeric/bits.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/limits.h"

namespace muster {

GatewayDevices::GatewayDevices(uint32_t devices_max, int refused_doublings)
    : devices_max_(devices_max), refused_doublings_(refused_doublings) {
  MUSTER_CHECK(refused_doublings >= 0 && refused_doublings <= 7);
}

absl::Status GatewayDevices::Add(absl::Span<const GatewayDevice> devices) {
  if (devices.size() > devices_max_ - by_token_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        devices.size(), " devices beside ", by_token_.size(),
        " are more than GatewayOptions::devices_max = ", devices_max_));
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    const auto& [token, id] = devices[i];
    absl::Status status;
    if (id.empty() || id.size() > kDeviceIdLengthMax) {
      status = absl::InvalidArgumentError(
          absl::StrCat("the id of the device with token ", token, " has ",
                       id.size(), " bytes; it may have 1 to 128"));
    } else if (!by_token_.try_emplace(token, kNone).second) {
      status = absl::AlreadyExistsError(absl::StrCat(
          "a device with token ", token, " is there already; tokens are free ",
          "after RemoveDevices()"));
    }
    if (!status.ok()) {
      for (size_t j = 0; j < i; ++j) by_token_.erase(devices[j].token);
      return status;
    }
  }
  for (const auto& [token, id] : devices) {
    uint32_t row = first_free_;
    if (row != kNone) {
      first_free_ = rows_[row].handle;
    } else {
      row = static_cast<uint32_t>(rows_.size());
      rows_.push_back({});
      waiting_.resize(row / 64 + 1);
    }
    rows_[row] = {.token = token,
                  .handle = 0,
                  .id = StoreId(id),
                  .id_length = static_cast<uint8_t>(id.size()),
                  .state = State::kIdle};
    by_token_[token] = row;
    if (stream_) SetWaiting(row);
  }
  return absl::OkStatus();
}

uint32_t GatewayDevices::StoreId(absl::string_view id) {
  const uint64_t room = ids_.size() * uint64_t{kBlockBytes} - ids_end_;
  if (room < id.size()) {
    ids_end_ += room;
    ids_.push_back(std::make_unique<char[]>(kBlockBytes));
  }
  const uint64_t at = ids_end_;
  std::memcpy(&ids_[at / kBlockBytes][at % kBlockBytes], id.data(), id.size());
  ids_end_ += id.size();
  live_id_bytes_ += id.size();
  return static_cast<uint32_t>(at);
}

void GatewayDevices::DropDeadIds() {
  if (ids_end_ - live_id_bytes_ <=
      std::max<uint64_t>(live_id_bytes_, 4 * kBlockBytes)) {
    return;
  }
  std::vector<std::unique_ptr<char[]>> old = std::move(ids_);
  ids_.clear();
  ids_end_ = 0;
  live_id_bytes_ = 0;
  for (Row& row : rows_) {
    if (row.state == State::kFree) continue;
    row.id = StoreId(
        {&old[row.id / kBlockBytes][row.id % kBlockBytes], row.id_length});
  }
}

void GatewayDevices::FreeRow(uint32_t row) {
  live_id_bytes_ -= rows_[row].id_length;
  rows_[row].state = State::kFree;
  rows_[row].handle = first_free_;
  first_free_ = row;
}

void GatewayDevices::Remove(absl::Span<const uint32_t> tokens,
                            std::vector<uint32_t>* handles) {
  for (const uint32_t token : tokens) {
    const auto found = by_token_.find(token);
    if (found == by_token_.end()) continue;
    const uint32_t row = found->second;
    by_token_.erase(found);
    switch (rows_[row].state) {
      case State::kAsked:
        rows_[row].state = State::kLeaving;
        continue;
      case State::kAttached:
        handles->push_back(rows_[row].handle);
        by_handle_[rows_[row].handle] = kNone;
        --attached_;
        break;
      case State::kWaiting:
        waiting_[row / 64] &= ~(uint64_t{1} << (row % 64));
        --waiting_count_;
        break;
      case State::kRefused:
        --refused_;
        break;
      case State::kIdle:
        break;
      case State::kFree:
      case State::kLeaving:
        MUSTER_CHECK(false);  // They have no token.
    }
    FreeRow(row);
  }
  DropDeadIds();
}

void GatewayDevices::SetWaiting(uint32_t row) {
  rows_[row].state = State::kWaiting;
  waiting_[row / 64] |= uint64_t{1} << (row % 64);
  ++waiting_count_;
}

void GatewayDevices::SetRefused(uint32_t row) {
  rows_[row].state = State::kRefused;
  // One more: the first pass comes at any time.
  rows_[row].passes = static_cast<uint8_t>(
      (1 << std::min<int>(rows_[row].refusals, refused_doublings_)) + 1);
  if (rows_[row].refusals < 7) ++rows_[row].refusals;
  ++refused_;
}

void GatewayDevices::BeginStream() {
  stream_ = true;
  cursor_ = 0;
  for (uint32_t row = 0; row < rows_.size(); ++row) {
    if (rows_[row].state != State::kFree) SetWaiting(row);
  }
}

void GatewayDevices::LeaveStream(std::vector<uint32_t>* handles) {
  stream_ = false;
  for (Row& row : rows_) {
    switch (row.state) {
      case State::kAttached:
        handles->push_back(row.handle);
        by_handle_[row.handle] = kNone;
        break;
      case State::kWaiting:
      case State::kRefused:
        break;
      case State::kFree:
      case State::kIdle:
      case State::kAsked:
      case State::kLeaving:
        continue;
    }
    row.state = State::kIdle;
  }
  std::fill(waiting_.begin(), waiting_.end(), 0);
  waiting_count_ = 0;
  attached_ = 0;
  refused_ = 0;
}

void GatewayDevices::EndStream() {
  stream_ = false;
  for (uint32_t row = 0; row < rows_.size(); ++row) {
    if (rows_[row].state == State::kFree) continue;
    if (rows_[row].state == State::kLeaving) {
      FreeRow(row);
      continue;
    }
    rows_[row].state = State::kIdle;
    rows_[row].refusals = 0;
  }
  std::fill(waiting_.begin(), waiting_.end(), 0);
  waiting_count_ = 0;
  attached_ = 0;
  refused_ = 0;
  unanswered_.clear();
  by_handle_.clear();
}

std::vector<uint32_t> GatewayDevices::NextRows() {
  std::vector<uint32_t> rows = std::move(spare_rows_);
  rows.clear();
  while (waiting_count_ != 0 && rows.size() < kGatewayConnectMax) {
    if (cursor_ >= waiting_.size()) cursor_ = 0;
    uint64_t& word = waiting_[cursor_];
    if (word == 0) {
      ++cursor_;
      continue;
    }
    const auto row =
        static_cast<uint32_t>(cursor_ * 64 + absl::countr_zero(word));
    word &= word - 1;
    --waiting_count_;
    rows_[row].state = State::kAsked;
    rows.push_back(row);
  }
  return rows;
}

absl::Status GatewayDevices::OnConnected(absl::Span<const uint32_t> answer,
                                         std::vector<uint32_t>* attached,
                                         std::vector<Refused>* refused,
                                         std::vector<uint32_t>* handles) {
  if (unanswered_.empty()) {
    return absl::InvalidArgumentError(
        "connected: there is one more than there were frames with connect");
  }
  std::vector<uint32_t> rows = std::move(unanswered_.front());
  unanswered_.pop_front();
  if (answer.size() != rows.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("connected.handles: ", answer.size(), " for ", rows.size(),
                     " devices"));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint32_t row = rows[i];
    const uint32_t handle = answer[i];
    const bool unwanted = rows_[row].state == State::kLeaving || !stream_;
    if (unwanted) {
      if (rows_[row].state == State::kLeaving) {
        FreeRow(row);
      } else {
        rows_[row].state = State::kIdle;
      }
    }
    if (handle == 0) {
      if (unwanted) continue;
      SetRefused(row);
      refused->push_back(
          {.token = rows_[row].token, .position = static_cast<uint32_t>(i)});
      continue;
    }
    if (handle > kGatewayHandleMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("connected.handles[", i, "]: ", handle,
                       " is over the greatest, ", kGatewayHandleMax));
    }
    if (handle >= by_handle_.size()) by_handle_.resize(handle + 1, kNone);
    if (by_handle_[handle] != kNone) {
      return absl::InvalidArgumentError(
          absl::StrCat("connected.handles[", i, "]: ", handle,
                       " is another device's, which has not been given back"));
    }
    if (unwanted) {
      handles->push_back(handle);
      continue;
    }
    by_handle_[handle] = row;
    rows_[row].handle = handle;
    rows_[row].state = State::kAttached;
    rows_[row].refusals = 0;
    ++attached_;
    attached->push_back(rows_[row].token);
  }
  spare_rows_ = std::move(rows);
  DropDeadIds();
  return absl::OkStatus();
}

bool GatewayDevices::OnDropped(uint32_t handle, bool refused, uint32_t* token) {
  if (!TokenOf(handle, token)) return false;
  const uint32_t row = std::exchange(by_handle_[handle], kNone);
  --attached_;
  if (refused) {
    SetRefused(row);
    return true;
  }
  by_token_.erase(*token);
  FreeRow(row);
  return true;
}

void GatewayDevices::ReviseRefused() {
  if (refused_ == 0) return;
  for (uint32_t row = 0; row < rows_.size(); ++row) {
    if (rows_[row].state != State::kRefused || --rows_[row].passes != 0) {
      continue;
    }
    --refused_;
    SetWaiting(row);
  }
}

}  // namespace muster
