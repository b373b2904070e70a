#include "transport/http/tls_context.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "openssl/err.h"
#include "transport/tls/pem_files.h"

namespace muster {
namespace {

// Of 1.2; those of 1.3 are all good.
constexpr char kSuites[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

// One will do: a client opens its next connection with it and gets another.
constexpr size_t kTickets = 1;

// OpenSSL's own BIO for sockets writes with write(), which raises SIGPIPE once
// the client has gone, and reads in the socket's mode.

int SocketOf(BIO* bio) {
  return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
}

bool WouldBlock() { return errno == EAGAIN || errno == EINTR; }

int Write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent = send(SocketOf(bio), data, static_cast<size_t>(size),
                            MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && WouldBlock()) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int Read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t received =
      recv(SocketOf(bio), data, static_cast<size_t>(size), MSG_DONTWAIT);
  if (received < 0 && WouldBlock()) BIO_set_retry_read(bio);
  if (received == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(received);
}

long Control(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF);
  return 0;
}

std::unique_ptr<BIO_METHOD, SslFree> MakeSocketMethod() {
  std::unique_ptr<BIO_METHOD, SslFree> method(
      BIO_meth_new(BIO_TYPE_SOCKET, "socket"));
  MUSTER_CHECK(method != nullptr &&
               BIO_meth_set_write(method.get(), Write) == 1 &&
               BIO_meth_set_read(method.get(), Read) == 1 &&
               BIO_meth_set_ctrl(method.get(), Control) == 1);
  return method;
}

absl::Status CannotUse(const std::string& path) {
  const unsigned long error = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(error);
  const absl::Status status = absl::InvalidArgumentError(
      absl::StrCat("cannot use ", path, ": ",
                   reason != nullptr ? reason : "it has nothing for TLS"));
  ERR_clear_error();
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Load(
    const std::string& certificate_path, const std::string& key_path) {
  // These say more about what is wrong than OpenSSL does.
  const absl::StatusOr<std::string> certificate = ReadPem(certificate_path);
  if (!certificate.ok()) return certificate.status();
  const absl::StatusOr<std::string> key = ReadPem(key_path);
  if (!key.ok()) return key.status();
  if (absl::Status s =
          CheckKeyPair(certificate_path, *certificate, key_path, *key);
      !s.ok()) {
    return s;
  }

  std::unique_ptr<SSL_CTX, SslFree> made(SSL_CTX_new(TLS_server_method()));
  MUSTER_CHECK(made != nullptr);
  SSL_CTX* const context = made.get();
  MUSTER_CHECK(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1);
  MUSTER_CHECK(SSL_CTX_set_cipher_list(context, kSuites) == 1);
  // An end without close_notify is an end: HTTP says itself whether something
  // is missing.
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  MUSTER_CHECK(SSL_CTX_set_num_tickets(context, kTickets) == 1);
  // Idle connections hold no buffers; a write that could not be finished is
  // tried again from wherever its bytes are then.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS |
                                SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A read that has met a record without data, and has no more bytes at hand,
  // ends: other connections have their turn before the socket is asked again.
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  // A record in one recv(), not in two.
  SSL_CTX_set_read_ahead(context, 1);
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, certificate_path.c_str()) !=
      1) {
    return CannotUse(certificate_path);
  }
  if (SSL_CTX_use_PrivateKey_file(context, key_path.c_str(),
                                  SSL_FILETYPE_PEM) != 1) {
    return CannotUse(key_path);
  }
  return std::unique_ptr<TlsContext>(
      new TlsContext(std::move(made), MakeSocketMethod()));
}

TlsContext::TlsContext(std::unique_ptr<SSL_CTX, SslFree> context,
                       std::unique_ptr<BIO_METHOD, SslFree> socket_method)
    : context_(std::move(context)), socket_method_(std::move(socket_method)) {}

std::unique_ptr<SSL, SslFree> TlsContext::NewConnection(int socket) const {
  std::unique_ptr<SSL, SslFree> ssl(SSL_new(context_.get()));
  BIO* const bio = BIO_new(socket_method_.get());
  if (ssl == nullptr || bio == nullptr) {
    BIO_free(bio);
    return nullptr;
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(socket)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl.get(), bio, bio);
  SSL_set_accept_state(ssl.get());
  return ssl;
}

}  // namespace muster
