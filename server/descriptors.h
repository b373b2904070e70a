// How many descriptors the process may have, which is how many connections: a
// server whose accept() fails for want of one takes none any more
// (port_watch.h).
#ifndef SERVER_DESCRIPTORS_H_
#define SERVER_DESCRIPTORS_H_

#include <cstdint>

namespace muster {

// Raises the limit as far as the system lets an ordinary process
// (RLIMIT_NOFILE, soft to hard), and returns what it is now; INT64_MAX if there
// is none.
int64_t RaiseDescriptorLimit();

}  // namespace muster

#endif  // SERVER_DESCRIPTORS_H_
