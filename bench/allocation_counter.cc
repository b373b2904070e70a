#include "bench/allocation_counter.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> allocation_count{0};
std::atomic<int64_t> allocated_bytes{0};

void Free(void* p) {
  allocated_bytes.fetch_sub(static_cast<int64_t>(malloc_usable_size(p)),
                            std::memory_order_relaxed);
  std::free(p);
}

}  // namespace

void* operator new(size_t size) {
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  allocated_bytes.fetch_add(static_cast<int64_t>(malloc_usable_size(p)),
                            std::memory_order_relaxed);
  return p;
}
void operator delete(void* p) noexcept { Free(p); }
void operator delete(void* p, size_t) noexcept { Free(p); }

namespace muster {

int64_t AllocationCount() {
  return allocation_count.load(std::memory_order_relaxed);
}

int64_t AllocatedBytes() {
  return allocated_bytes.load(std::memory_order_relaxed);
}

}  // namespace muster
