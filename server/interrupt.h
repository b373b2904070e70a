// Interrupt: ctrl-C as an event that the main thread waits for.
//
// The first SIGINT or SIGTERM asks for a clean end: the handler counts it and
// writes a byte to a pipe, nothing else.  The second ends the process at once,
// with what a shell expects of a process that a signal ended.
//
//   Interrupt& interrupt = Interrupt::Install();
//   while (!interrupt.pending() && !Finished()) {
//     interrupt.Wait(absl::Milliseconds(100));
//   }
#ifndef SERVER_INTERRUPT_H_
#define SERVER_INTERRUPT_H_

#include <string>

#include "absl/time/time.h"

namespace muster {

// Thread-safe, but for the handling of files.
class Interrupt {
 public:
  // Installs the handlers; from the second call on only returns.
  static Interrupt& Install();

  // Whether a clean end was asked for.
  bool pending() const;

  // Returns after `timeout`, or as soon as there was an interrupt or a Wake()
  // since the last Wait().  One thread.
  void Wait(absl::Duration timeout);

  // Returns as soon as `fd` has something to read, or is at its end: true; or
  // when a clean end was asked for: false.  The thread of Wait().
  bool AwaitReadable(int fd);

  // Ends a Wait().  Never blocks.
  void Wake();

  // A file that is to be gone if the process ends at once; "" for none.  Paths
  // that are longer than a path may be are not remembered.
  void RemoveAtOnceWith(const std::string& path);

 private:
  Interrupt();
};

}  // namespace muster

#endif  // SERVER_INTERRUPT_H_
