// MUSTER_CHECK: our own fault ends the process, loudly and at once.
//
// Abseil's logging came after the version that this project builds with.
#ifndef ENGINE_MODEL_CHECK_H_
#define ENGINE_MODEL_CHECK_H_

#include "absl/base/optimization.h"

namespace muster {

// Prints "file:line: CHECK failed: condition" to standard error and aborts.
[[noreturn]] void CheckFailed(const char* file, int line,
                              const char* condition);

}  // namespace muster

#define MUSTER_CHECK(condition)                                    \
  do {                                                             \
    if (ABSL_PREDICT_FALSE(!(condition))) {                        \
      ::muster::CheckFailed(__FILE__, __LINE__, #condition);       \
    }                                                              \
  } while (false)

// On hot paths: checked where NDEBUG is not defined.
#ifdef NDEBUG
#define MUSTER_DCHECK(condition) \
  do {                           \
    if (false) {                 \
      (void)(condition);         \
    }                            \
  } while (false)
#else
#define MUSTER_DCHECK(condition) MUSTER_CHECK(condition)
#endif

#endif  // ENGINE_MODEL_CHECK_H_
