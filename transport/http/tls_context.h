// TlsContext: what all TLS connections of a server share, and where OpenSSL's
// settings are.
//
// TLS 1.2 and 1.3.  In 1.2 only suites with forward secrecy and authenticated
// encryption; no renegotiation, no compression, no client certificates, no
// ALPN.  Sessions are resumed by tickets alone, whose keys live as long as the
// context: the server keeps nothing of a connection that has gone.
#ifndef TRANSPORT_HTTP_TLS_CONTEXT_H_
#define TRANSPORT_HTTP_TLS_CONTEXT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "openssl/bio.h"
#include "openssl/ssl.h"

namespace muster {

struct SslFree {
  void operator()(SSL* p) const { SSL_free(p); }
  void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
  void operator()(BIO_METHOD* p) const { BIO_meth_free(p); }
};

// Thread-safe.
class TlsContext {
 public:
  // From PEM files: a chain with the server's own certificate first, and its
  // key.
  //   NOT_FOUND         a file that cannot be read, naming it
  //   INVALID_ARGUMENT  one that is not what it should be, naming it; a key
  //                     that is not the certificate's
  static absl::StatusOr<std::unique_ptr<TlsContext>> Load(
      const std::string& certificate_path, const std::string& key_path);

  // The server's end of a connection over the socket, which stays the caller's
  // and must outlive it.  What is read and written does not wait for the
  // socket, whatever its mode, and raises no SIGPIPE.  Null if there is no
  // memory.
  std::unique_ptr<SSL, SslFree> NewConnection(int socket) const;

 private:
  TlsContext(std::unique_ptr<SSL_CTX, SslFree> context,
             std::unique_ptr<BIO_METHOD, SslFree> socket_method);

  const std::unique_ptr<SSL_CTX, SslFree> context_;
  const std::unique_ptr<BIO_METHOD, SslFree> socket_method_;
};

}  // namespace muster

#endif  // TRANSPORT_HTTP_TLS_CONTEXT_H_
