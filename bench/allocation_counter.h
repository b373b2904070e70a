// Counts what a benchmark allocates: costs are counted, not believed.
//
// Linking this replaces operator new and delete for the whole program.
#ifndef BENCH_ALLOCATION_COUNTER_H_
#define BENCH_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace muster {

// Calls of operator new so far, by all threads.
int64_t AllocationCount();

// Bytes that are allocated now, as the allocator rounds them.
int64_t AllocatedBytes();

}  // namespace muster

#endif  // BENCH_ALLOCATION_COUNTER_H_
