// ZeroedArray: a fixed array of atomics that are zero, in memory that nobody
// has touched yet.
//
// The rings of a queue take a megabyte each, and most of an engine's queues are
// hardly used: the system gives a page only when something is written there.
#ifndef ENGINE_SCHEDULE_ZEROED_ARRAY_H_
#define ENGINE_SCHEDULE_ZEROED_ARRAY_H_

#include <cstddef>
#include <cstdlib>
#include <type_traits>

#include "engine/model/check.h"

namespace muster {

// `kZeroIsValue`: all bits zero are a T of value zero, as for structs of
// lock-free std::atomic of integers.  Otherwise the elements are constructed.
template <typename T, bool kZeroIsValue>
class ZeroedArray {
 public:
  explicit ZeroedArray(size_t size) {
    if constexpr (kZeroIsValue) {
      static_assert(std::is_trivially_destructible_v<T>);
      data_ = static_cast<T*>(std::calloc(size, sizeof(T)));
      MUSTER_CHECK(data_ != nullptr);
    } else {
      data_ = new T[size];
    }
  }
  ~ZeroedArray() {
    if constexpr (kZeroIsValue) {
      std::free(data_);
    } else {
      delete[] data_;
    }
  }
  ZeroedArray(const ZeroedArray&) = delete;
  ZeroedArray& operator=(const ZeroedArray&) = delete;

  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_ZEROED_ARRAY_H_
