// Makes the certificate of a hub that is tested: FOLDER/cert.pem, which clients
// trust too, and FOLDER/key.pem.
//
//   make_certificate FOLDER NAME...
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/schedule/clock.h"
#include "transport/http/self_signed.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: make_certificate FOLDER NAME...\n";
    return 2;
  }
  const std::string folder = argv[1];
  const absl::StatusOr<muster::CertificateAndKey> made =
      muster::MakeSelfSigned(std::vector<std::string>(argv + 2, argv + argc),
                             muster::Clock::Real().Now());
  if (!made.ok()) {
    std::cerr << "make_certificate: " << made.status() << "\n";
    return 2;
  }
  std::ofstream(folder + "/cert.pem") << made->certificate;
  std::ofstream(folder + "/key.pem") << made->key;
  return 0;
}
