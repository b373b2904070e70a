// Options and suppressions of the sanitizers. In the binary, not in a file: a
// test then needs no environment, whether Bazel or a debugger starts it.

// NOLINTBEGIN(bugprone-reserved-identifier): the names are the sanitizers'.

extern "C" {

const char* __asan_default_options();
const char* __tsan_default_options();
const char* __tsan_default_suppressions();
const char* __ubsan_default_options();

__attribute__((used, visibility("default"))) const char*
__asan_default_options() {
  return "detect_stack_use_after_return=1:strict_string_checks=1:"
         "check_initialization_order=1";
}

__attribute__((used, visibility("default"))) const char*
__tsan_default_options() {
  return "second_deadlock_stack=1:history_size=4";
}

__attribute__((used, visibility("default"))) const char*
__tsan_default_suppressions() {
  return
      // Abseil 20220623: the semaphore behind absl::Mutex is used from inside
      // the regions that its own annotations tell TSan to ignore.
      "race:absl::*::synchronization_internal::Waiter::\n"
      // RocksDB is Debian's, which is not instrumented: what its threads hand
      // to each other by atomics looks like races.
      "race:rocksdb::\n"
      "called_from_lib:librocksdb.so\n"
      // gRPC and protobuf likewise: whatever has them in its stack, callbacks
      // among it.  What our threads do to each other there is tested without
      // gRPC too (gateway_side_test).
      "race:libgrpc.so\n"
      "race:libgrpc++.so\n"
      "race:libgpr.so\n"
      "race:libupb.so\n"
      "race:libprotobuf.so\n"
      "race:grpc::\n"
      "race:google::protobuf::\n";
}

__attribute__((used, visibility("default"))) const char*
__ubsan_default_options() {
  return "print_stacktrace=1";
}

}  // extern "C"

// NOLINTEND(bugprone-reserved-identifier)
