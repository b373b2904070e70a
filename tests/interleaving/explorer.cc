#include "tests/interleaving/explorer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"

namespace muster {
namespace {

bool Acquires(std::memory_order order) {
  return order == std::memory_order_acquire ||
         order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

bool Releases(std::memory_order order) {
  return order == std::memory_order_release ||
         order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

void Join(Explorer::View& view, const Explorer::View& other) {
  for (size_t i = 0; i < view.size(); ++i) {
    view[i] = std::max(view[i], other[i]);
  }
}

}  // namespace

Explorer* Explorer::current_ = nullptr;

Explorer::Result Explorer::Explore(
    const Limits& limits,
    const std::function<std::unique_ptr<Program>()>& make) {
  auto explorer = std::make_unique<Explorer>();
  explorer->limits_ = limits;
  current_ = explorer.get();
  for (Thread& thread : explorer->threads_) thread.stack.resize(1 << 16);
  while (true) {
    explorer->RunOnce(make);
    Result& result = explorer->result_;
    ++result.executions;
    if (!result.failure.empty()) break;
    // The last decision that has another option.
    auto& path = explorer->path_;
    while (!path.empty() && path.back().chosen + 1 == path.back().options) {
      path.pop_back();
    }
    if (path.empty()) break;
    if (result.executions >= limits.executions) {
      result.complete = false;
      break;
    }
    ++path.back().chosen;
  }
  current_ = nullptr;
  return explorer->result_;
}

void Explorer::RunOnce(const std::function<std::unique_ptr<Program>()>& make) {
  depth_ = 0;
  location_count_ = 0;
  main_view_.fill(0);
  ordered_.clear();
  for (auto& accesses : ordered_by_) accesses.clear();
  for (auto& accesses : ordered_at_) accesses.clear();
  running_ = frozen_ = -1;
  preemptions_ = stale_ = 0;
  asleep_ = 0;
  steps_ = alone_ = 0;
  over_ = false;
  result_.trace.clear();
  std::unique_ptr<Program> program = make();
  program_ = program.get();
  thread_count_ = program->threads();
  MUSTER_CHECK(thread_count_ <= kThreadsMax);
  for (int t = 0; t < thread_count_; ++t) {
    Thread& thread = threads_[t];
    thread.started = thread.done = false;
    thread.begin = -1;
    thread.behind.reset();
    thread.ordered = 0;
    thread.view = thread.returned = main_view_;
    thread.location = -1;  // Its first step is not known yet.
    thread.writes = true;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, &Explorer::Entry, 0);
  }
  // Each runs up to its first step, so that it is known.
  for (int t = 0; t < thread_count_ && !over_; ++t) {
    running_ = t;
    swapcontext(&main_, &threads_[t].context);
  }
  while (!over_) {
    const int next = PickThread(false);
    if (next < 0) break;
    running_ = next;
    swapcontext(&main_, &threads_[next].context);
  }
  running_ = -1;
  result_.steps += steps_;
  if (over_) return;
  for (int t = 0; t < thread_count_; ++t) {
    Join(main_view_, t == frozen_ ? threads_[t].returned : threads_[t].view);
  }
  program->Check(frozen_);
}

void Explorer::Entry() {
  Explorer& explorer = *current_;
  const int self = explorer.running_;
  explorer.program_->Run(self);
  explorer.threads_[self].done = true;
  explorer.Leave();
}

int Explorer::Choose(int options) {
  if (options == 1) return 0;
  if (depth_ == path_.size()) path_.push_back({0, options});
  MUSTER_CHECK(path_[depth_].options == options);  // Else it is not replayed.
  return path_[depth_++].chosen;
}

// Who goes next: the running thread first, if it can; -1 if nobody is left.
int Explorer::PickThread(bool current_can_go_on) {
  const bool sleep = limits_.preemptions < 0;
  int options[kThreadsMax];
  int count = 0;
  if (current_can_go_on && !(sleep && (asleep_ >> running_ & 1))) {
    options[count++] = running_;
  }
  const bool others =
      !current_can_go_on || sleep || preemptions_ < limits_.preemptions;
  bool anybody = current_can_go_on;
  bool next_in_turn = false;
  for (int t = 0; t < thread_count_; ++t) {
    if (threads_[t].done || t == frozen_) continue;
    anybody = true;
    if (!others || (sleep && (asleep_ >> t & 1))) continue;
    if (current_can_go_on && t == running_) continue;
    if (limits_.in_turn) {
      if (current_can_go_on && threads_[t].started) continue;
      if (next_in_turn) continue;
      // Those that wait for all to begin.
      if (threads_[t].started && !threads_[thread_count_ - 1].started) continue;
      next_in_turn = true;
    }
    options[count++] = t;
  }
  if (!anybody) return -1;
  if (count == 0) {  // All that could follow has been seen in another order.
    over_ = true;
    return -1;
  }
  const int chosen = Choose(count);
  const int next = options[chosen];
  if (sleep) {
    // Those tried before it from here need not be tried after it, until a step
    // comes that theirs depends on.
    for (int i = 0; i < chosen; ++i) asleep_ |= 1u << options[i];
    for (int t = 0; t < thread_count_; ++t) {
      if ((asleep_ >> t & 1) != 0 &&
          WakesFromSleep(t, threads_[next].location, threads_[next].writes)) {
        asleep_ &= ~(1u << t);
      }
    }
  }
  if (current_can_go_on && next != running_) ++preemptions_;
  threads_[next].started = true;
  return next;
}

bool Explorer::WakesFromSleep(int thread, int location, bool writes) const {
  const Thread& other = threads_[thread];
  return other.location == location && (writes || other.writes);
}

// Before an access: lets others go first.
void Explorer::Step(int location, bool writes) {
  if (running_ < 0) {  // Before or after the threads.
    MUSTER_CHECK(++alone_ < 100'000);
    return;
  }
  Thread& self = threads_[running_];
  const bool first = self.location < 0;
  self.location = location;
  self.writes = writes;
  const int id = running_;
  if (first) {
    swapcontext(&self.context, &main_);
  } else {
    if (limits_.freeze && frozen_ < 0 && Choose(2) == 1) {
      frozen_ = running_;
      Leave();
    }
    const int next = PickThread(true);
    if (over_) Leave();
    if (next != running_) {
      running_ = next;
      swapcontext(&self.context, &threads_[next].context);
    }
  }
  running_ = id;
  if (++steps_ > limits_.steps) Fail("somebody waits for somebody");
  if (self.begin < 0) {
    self.begin = steps_;
    for (int t = 0; t < thread_count_; ++t) {
      uint8_t& known = self.view[kLocationsMax + t];
      known = std::max(known, static_cast<uint8_t>(threads_[t].ordered));
    }
  }
}

void Explorer::Leave() { setcontext(&main_); }

void Explorer::Fail(const std::string& what) {
  if (result_.failure.empty()) result_.failure = what;
  over_ = true;
  if (running_ >= 0) Leave();
}

void Explorer::Returned() {
  Thread& self = threads_[running_];
  self.returned = self.view;
  self.ordered = static_cast<int>(ordered_by_[running_].size());
}

std::bitset<Explorer::kOrderedMax> Explorer::Before() const {
  std::bitset<kOrderedMax> before;
  for (int t = 0; t < thread_count_; ++t) {
    const int count = threads_[running_].view[kLocationsMax + t];
    if (count == 0) continue;
    const int last = ordered_by_[t][count - 1];
    before |= ordered_[last].before;
    before.set(last);
  }
  return before;
}

int Explorer::Oldest(int location,
                     const std::bitset<kOrderedMax>& before) const {
  int oldest = 0;
  for (int access : ordered_at_[location]) {
    if (before[access])
      oldest = std::max(oldest, ordered_[access].position / 2);
  }
  return oldest;
}

void Explorer::Order(int location, int position,
                     std::bitset<kOrderedMax> before) {
  const int self = static_cast<int>(ordered_.size());
  auto& mine = ordered_by_[running_];
  if (self == kOrderedMax || mine.size() == 255) {
    Fail("somebody waits for somebody");
  }
  std::bitset<kOrderedMax> after;
  for (int access : ordered_at_[location]) {
    const Ordered& other = ordered_[access];
    if (other.position < position) {
      before |= other.before;
      before.set(access);
    } else if (other.position > position) {
      after.set(access);
    }
  }
  ordered_.push_back({location, position, before});
  ordered_at_[location].push_back(self);
  mine.push_back(self);
  view()[kLocationsMax + running_] = static_cast<uint8_t>(mine.size());
  if (after.none()) return;
  before.set(self);
  for (int access = 0; access < self; ++access) {
    Ordered& other = ordered_[access];
    if (after[access] || (other.before & after).any()) other.before |= before;
  }
}

int Explorer::NewLocation(uint64_t value) {
  MUSTER_CHECK(location_count_ < kLocationsMax);
  auto& values = locations_[location_count_];
  values.clear();
  values.push_back({value, View{}});
  return location_count_++;
}

uint64_t Explorer::Load(int location, std::memory_order order) {
  Step(location, false);
  auto& values = locations_[location];
  View& mine = view();
  int oldest = mine[location];
  const bool ordered = orders() && order == std::memory_order_seq_cst;
  std::bitset<kOrderedMax> before;
  if (ordered) {
    before = Before();
    oldest = std::max(oldest, Oldest(location, before));
  }
  const int newest = static_cast<int>(values.size()) - 1;
  int back = 0;
  if (running_ >= 0 && oldest < newest) {
    // What it has read before, if it was old then, can be read again.
    auto& behind = threads_[running_].behind;
    const bool again = behind[location] && oldest == mine[location];
    if (stale_ < limits_.stale) {
      back = Choose(newest - oldest + 1);
      if (back > 0 && !(again && back == newest - oldest)) ++stale_;
    } else if (again && Choose(2) == 1) {
      back = newest - oldest;
    }
    behind[location] = back > 0;
  }
  const Message& read = values[newest - back];
  mine[location] = static_cast<uint8_t>(newest - back);
  if (limits_.trace) Trace("load", location, newest - back);
  if (Acquires(order)) Join(mine, read.view);
  if (ordered) Order(location, 2 * (newest - back) + 1, before);
  return read.value;
}

void Explorer::Store(int location, uint64_t value, std::memory_order order) {
  Step(location, true);
  auto& values = locations_[location];
  MUSTER_CHECK(values.size() < 255);
  View& mine = view();
  mine[location] = static_cast<uint8_t>(values.size());
  values.push_back({value, Releases(order) ? mine : View{}});
  values.back().view[location] = mine[location];
  if (orders() && order == std::memory_order_seq_cst) {
    Order(location, 2 * mine[location], Before());
  }
}

void Explorer::Trace(const char* what, int location, size_t read) {
  if (running_ < 0) return;
  absl::StrAppend(&result_.trace, running_, " ", what, " ", location, " #",
                  read, " of ", locations_[location].size(), "\n");
}

bool Explorer::CompareExchange(int location, uint64_t* expected,
                               uint64_t desired, std::memory_order success,
                               std::memory_order failure) {
  Step(location, true);
  auto& values = locations_[location];
  View& mine = view();
  const int newest = static_cast<int>(values.size()) - 1;
  if (running_ >= 0 && stale_ < limits_.stale && mine[location] < newest) {
    // It may fail on an older value, as a load.
    std::array<int, 256> others;
    int count = 0;
    for (int i = newest - 1; i >= mine[location]; --i) {
      if (values[i].value != *expected) others[count++] = i;
    }
    const int chosen = Choose(count + 1);
    if (chosen > 0) {
      ++stale_;
      const Message& read = values[others[chosen - 1]];
      mine[location] = static_cast<uint8_t>(others[chosen - 1]);
      if (limits_.trace) Trace("cas fails", location, mine[location]);
      if (Acquires(failure)) Join(mine, read.view);
      *expected = read.value;
      return false;
    }
  }
  const Message before = values.back();
  const bool equal = before.value == *expected;
  if (limits_.trace) Trace(equal ? "cas" : "cas fails", location, 0);
  const std::memory_order order = equal ? success : failure;
  mine[location] = static_cast<uint8_t>(newest);
  const bool ordered = orders() && order == std::memory_order_seq_cst;
  std::bitset<kOrderedMax> earlier;
  if (ordered) earlier = Before();
  if (Acquires(order)) Join(mine, before.view);
  if (!equal) {
    *expected = before.value;
    return false;
  }
  MUSTER_CHECK(values.size() < 255);
  mine[location] = static_cast<uint8_t>(values.size());
  Message after{desired, before.view};
  if (Releases(order)) Join(after.view, mine);
  after.view[location] = mine[location];
  values.push_back(after);
  if (ordered) Order(location, 2 * mine[location], earlier);
  return true;
}

void Explorer::PlainWrite(int location) {
  PlainRead(location);
  auto& values = locations_[location];
  view()[location] = static_cast<uint8_t>(values.size());
  values.push_back({0, View{}});
}

void Explorer::PlainRead(int location) {
  if (view()[location] + 1u != locations_[location].size()) {
    Fail("a data race");
  }
}

}  // namespace muster
