#include "transport/http/http_stream.h"

#include <utility>

#include "openssl/err.h"
#include "openssl/sslerr.h"
#include "transport/http/http_server.h"

namespace muster {
namespace {

namespace asio = boost::asio;

}  // namespace

HttpStream::HttpStream(Socket socket, const TlsContext* tls)
    : socket_(std::move(socket)), tls_(tls) {
  error_code ignored;
  socket_.non_blocking(true, ignored);
  if (tls != nullptr) ssl_ = tls->NewConnection(socket_.native_handle());
  if (ssl_ != nullptr) {
    SSL_set_msg_callback(ssl_.get(), OnRecord);
    SSL_set_msg_callback_arg(ssl_.get(), this);
  }
}

void HttpStream::OnRecord(int is_write, int, int type, const void* data,
                          size_t size, SSL* ssl, void* stream) {
  if (is_write != 0 || type != SSL3_RT_HEADER) return;
  HttpStream& self = *static_cast<HttpStream*>(stream);
  if (self.silent_records_ > kTlsSilentRecordsMax) {
    // It throws the record away then, and ends the read that it is in.
    SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
  } else {
    // Until it turns out to have data: TryRead().
    ++self.silent_records_;
    self.read_record_ = true;
  }
}

HttpStream::Wait HttpStream::Failed(int result, error_code* error) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Wait::kRead;
    case SSL_ERROR_WANT_WRITE:
      return Wait::kWrite;
    case SSL_ERROR_ZERO_RETURN:
      *error = asio::error::eof;
      return Wait::kNone;
    default:
      // The socket's end or an error of the protocol's: nothing more can be
      // said through it.
      failed_ = true;
      *error = asio::error::connection_aborted;
      return Wait::kNone;
  }
}

HttpStream::Wait HttpStream::TryHandshake(error_code* error) {
  if (ssl_ == nullptr) {
    *error = asio::error::operation_aborted;
    return Wait::kNone;
  }
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    established_ = true;
    return Wait::kNone;
  }
  const Wait wait = Failed(result, error);
  if (failed_) {
    const unsigned long reason = ERR_peek_last_error();
    handshake_was_http_ = ERR_GET_LIB(reason) == ERR_LIB_SSL &&
                          ERR_GET_REASON(reason) == SSL_R_HTTP_REQUEST;
    ERR_clear_error();
  }
  return wait;
}

HttpStream::Wait HttpStream::TryRead(asio::mutable_buffer buffer, size_t* bytes,
                                     error_code* error) {
  if (ssl_ == nullptr || failed_) {
    *error = asio::error::operation_aborted;
    return Wait::kNone;
  }
  if (buffer.size() == 0) return Wait::kNone;
  ERR_clear_error();
  const int result =
      SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), bytes);
  if (result != 1) return Failed(result, error);
  if (std::exchange(read_record_, false)) --silent_records_;
  return Wait::kNone;
}

HttpStream::Wait HttpStream::TryWrite(asio::const_buffer buffer, size_t* bytes,
                                      error_code* error) {
  if (ssl_ == nullptr || failed_) {
    *error = asio::error::operation_aborted;
    return Wait::kNone;
  }
  if (buffer.size() == 0) return Wait::kNone;
  ERR_clear_error();
  const int result =
      SSL_write_ex(ssl_.get(), buffer.data(), buffer.size(), bytes);
  return result == 1 ? Wait::kNone : Failed(result, error);
}

bool HttpStream::HasPending() const {
  return ssl_ != nullptr && SSL_has_pending(ssl_.get()) == 1;
}

bool HttpStream::CanRead() const {
  error_code error;
  return HasPending() || socket_.available(error) > 0;
}

void HttpStream::Expire() {
  expired_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

void HttpStream::SayGoodbye() {
  // Its close_notify goes out only if the socket takes it now.
  if (ssl_ != nullptr && established_ && !failed_) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  ssl_ = nullptr;
}

void HttpStream::ShutdownSend(error_code& error) {
  SayGoodbye();
  socket_.shutdown(Socket::shutdown_send, error);
}

void HttpStream::Close() {
  SayGoodbye();
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace muster
