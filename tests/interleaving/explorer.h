// Explorer: runs a small concurrent program in every order of its steps.
//
// The threads are fibers; each access to a CheckedAtomic is a step, before
// which the explorer decides who goes on.  Decisions are replayed, depth first,
// until none is left.  Three kinds of them:
//
//   who       the next thread to move; those that take the processor from a
//             thread that could go on are counted as preemptions
//   what      a load that is not held back by what its thread has seen may
//             return an older value; each that does is counted as stale
//   freeze    a thread never runs again from here
//
// Memory is modelled by views: a thread, and each value ever stored, knows of
// every location the oldest value that may still be read.  A release puts the
// thread's view into the value, an acquire takes it out; a read-modify-write
// reads the newest value and passes the view of the one before on (the release
// sequence).  Sequentially consistent accesses have one order S that need not
// be the order in which they run: a load may return any older value as long as
// some S agrees with C++20 [atomics.order], that is, as long as the strongly
// happens before and the coherence order between them have no cycle.  S does
// respect time: an operation of the program that has returned is before those
// that begin later, as a clock on the wall would tell; nothing else follows
// from time.  New values go to the end of a location's order, which loses
// nothing where all writes are read-modify-writes or by one owner.
//
// After "view-based operational semantics": Kang et al., POPL 2017, the C++20
// model and Lahav et al., PLDI 2017; bounded preemptions are after CHESS
// (Musuvathi and Qadeer, PLDI 2007), sleep sets after Godefroid (1996).
#ifndef TESTS_INTERLEAVING_EXPLORER_H_
#define TESTS_INTERLEAVING_EXPLORER_H_

#include <ucontext.h>

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace muster {

class Explorer {
 public:
  static constexpr int kLocationsMax = 60;
  static constexpr int kThreadsMax = 4;
  // By location, which of its values may still be read; behind that by thread,
  // how many of its sequentially consistent accesses are strongly before.
  using View = std::array<uint8_t, kLocationsMax + kThreadsMax>;

  struct Limits {
    int preemptions = 3;  // Negative: any number, with sleep sets.
    // Loads that may return an older value.  Those that return it again are
    // not counted.
    int stale = 0;
    bool freeze = false;  // One thread may stop for ever at any step.
    // Threads begin in the order of their numbers, one that is preempted goes
    // on when all have begun and none runs, and so in the order of numbers
    // again.  For programs of several stops that are otherwise too many.
    bool in_turn = false;
    int64_t executions = 50'000'000;
    bool trace = false;
    int steps = 3000;  // Of one execution; more is a failure: somebody waits.
  };
  struct Result {
    int64_t executions = 0;
    int64_t steps = 0;
    bool complete = true;  // False: the limit of executions was reached.
    std::string failure;   // Empty: none.
    // The steps of the failure, a line each: thread, operation, location (by
    // number, in the order they were made), which of its values was read.
    std::string trace;
  };

  // One program: made anew for each execution.
  class Program {
   public:
    virtual ~Program() = default;
    virtual int threads() const = 0;
    virtual void Run(int thread) = 0;
    // After all threads have ended or frozen.  `frozen`: a thread or -1.
    virtual void Check(int frozen) = 0;
  };

  // Stops at the first failure.
  static Result Explore(const Limits& limits,
                        const std::function<std::unique_ptr<Program>()>& make);

  // ------------------------------------------------ called by the program
  static Explorer& Get() { return *current_; }

  // Ends the execution with a failure.
  void Fail(const std::string& what);
  // Steps so far: a clock.
  int64_t now() const { return steps_; }
  // The thread that runs; -1 before and after all of them.
  int running() const { return running_; }
  // The running thread begins an operation with its next step; and which step
  // that was.
  void Begin() {
    if (running_ >= 0) threads_[running_].begin = -1;
  }
  int64_t begin() const { return threads_[running_].begin; }
  // An operation of the running thread has returned: what it did counts even
  // if the thread freezes later.
  void Returned();

  // ------------------------------------------------- called by the atomics
  int NewLocation(uint64_t value);
  uint64_t Load(int location, std::memory_order order);
  void Store(int location, uint64_t value, std::memory_order order);
  bool CompareExchange(int location, uint64_t* expected, uint64_t desired,
                       std::memory_order success, std::memory_order failure);
  uint64_t Newest(int location) const {
    return locations_[location].back().value;
  }
  // Plain memory: no step; an access that does not know the last write races.
  void PlainWrite(int location);
  void PlainRead(int location);

 private:
  struct Message {
    uint64_t value;
    View view;
  };
  struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    View view;
    View returned;  // At the last Returned().
    bool started = false;
    bool done = false;
    int64_t begin = -1;  // First step of the operation under way.
    std::bitset<kLocationsMax> behind;  // Those where it read an older value.
    int ordered = 0;   // Its accesses in S when it last Returned().
    int location = 0;  // Of the step that it is about to do.
    bool writes = false;
  };
  struct Decision {
    int chosen;
    int options;
  };
  // A sequentially consistent access.
  static constexpr int kOrderedMax = 512;
  struct Ordered {
    int location;
    int position;  // In the coherence order: a load is between two writes.
    std::bitset<kOrderedMax> before;  // Those that S has before it.
  };

  void Trace(const char* what, int location, size_t read);
  void RunOnce(const std::function<std::unique_ptr<Program>()>& make);
  static void Entry();
  int Choose(int options);
  void Step(int location, bool writes);
  void Leave();  // To the main context, never to return.
  void SwitchTo(int thread);
  int PickThread(bool current_can_go_on);
  bool WakesFromSleep(int thread, int location, bool writes) const;
  // A sequentially consistent access of the running thread, which is about to
  // happen: all that is before it in S but for its own location's, and the
  // oldest value that it may read.
  std::bitset<kOrderedMax> Before() const;
  int Oldest(int location, const std::bitset<kOrderedMax>& before) const;
  // It has happened.
  void Order(int location, int position, std::bitset<kOrderedMax> before);
  // Only what loads may read depends on S.
  bool orders() const { return running_ >= 0 && limits_.stale > 0; }
  View& view() { return running_ < 0 ? main_view_ : threads_[running_].view; }

  static Explorer* current_;

  Limits limits_;
  Result result_;
  std::vector<Decision> path_;
  size_t depth_ = 0;

  // Of one execution.
  Program* program_ = nullptr;
  ucontext_t main_;
  View main_view_;
  std::vector<Ordered> ordered_;
  std::vector<int> ordered_by_[kThreadsMax];
  std::vector<int> ordered_at_[kLocationsMax];
  std::vector<Message> locations_[kLocationsMax];
  int location_count_ = 0;
  Thread threads_[kThreadsMax];
  int thread_count_ = 0;
  int running_ = -1;
  int frozen_ = -1;
  int preemptions_ = 0;
  int stale_ = 0;
  unsigned asleep_ = 0;
  int64_t steps_ = 0;
  int64_t alone_ = 0;  // Steps outside the threads.
  bool over_ = false;  // Failed, or the same as one explored before.
};

// In place of std::atomic.
template <typename T>
class CheckedAtomic {
 public:
  CheckedAtomic(T value = 0)  // NOLINT: as std::atomic.
      : location_(Explorer::Get().NewLocation(value)) {}
  T load(std::memory_order order) const {
    return static_cast<T>(Explorer::Get().Load(location_, order));
  }
  void store(T value, std::memory_order order) {
    Explorer::Get().Store(location_, value, order);
  }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order success,
                               std::memory_order failure) {
    return Explorer::Get().CompareExchange(location_, &expected, desired,
                                           success, failure);
  }
  // Not a step: for the test itself.
  T newest() const { return static_cast<T>(Explorer::Get().Newest(location_)); }

 private:
  const int location_;
};

// Memory that is not atomic.
class CheckedPlain {
 public:
  CheckedPlain() : location_(Explorer::Get().NewLocation(0)) {}
  void Write() { Explorer::Get().PlainWrite(location_); }
  void Read() { Explorer::Get().PlainRead(location_); }

 private:
  const int location_;
};

}  // namespace muster

#endif  // TESTS_INTERLEAVING_EXPLORER_H_
