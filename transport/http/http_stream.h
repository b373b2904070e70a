// HttpStream: a connection's bytes, in the clear or through TLS, as an
// AsyncStream of Asio's.  Whoever reads and writes need not know which.
//
// TLS is OpenSSL on the socket itself: a step of it is tried, and if it cannot
// go on it is tried again when the socket can be read, or written.
// boost::asio::ssl::stream, with a pair of memory BIOs between and a buffer for
// each side, holds some 70 KB more for every connection.
//
// What one step does is bounded: a record with data, and kTlsSilentRecordsMax
// without.
//
// Of one thread, that of the socket's io_context.  Handlers are never called
// from inside the call that they are given to.
#ifndef TRANSPORT_HTTP_HTTP_STREAM_H_
#define TRANSPORT_HTTP_HTTP_STREAM_H_

#include <algorithm>
#include <array>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <cstddef>
#include <memory>
#include <utility>

#include "transport/http/tls_context.h"

namespace muster {

class HttpStream {
 public:
  // Of the io_context itself: the one that fits all allocates at every turn.
  using executor_type = boost::asio::io_context::executor_type;
  using Socket =
      boost::asio::basic_stream_socket<boost::asio::ip::tcp, executor_type>;
  using error_code = boost::system::error_code;

  // `tls`: null for plaintext; outlives the stream.
  HttpStream(Socket socket, const TlsContext* tls);
  HttpStream(const HttpStream&) = delete;
  HttpStream& operator=(const HttpStream&) = delete;

  executor_type get_executor() { return socket_.get_executor(); }

  // handler(error_code, size_t).  With TLS before anything else; without, not
  // at all.
  bool needs_handshake() const { return tls_ != nullptr && !established_; }
  template <typename Handler>
  void async_handshake(Handler&& handler) {
    Begin([this](size_t*, error_code* error) { return TryHandshake(error); },
          std::forward<Handler>(handler));
  }
  // The handshake has failed because the client speaks plain HTTP.
  bool handshake_was_http() const { return handshake_was_http_; }
  // Goes on in the clear.
  void DropTls() { ssl_ = nullptr; }

  // A request begins.  After more than kTlsSilentRecordsMax before the next one
  // there is nothing more to be read, as if the client had ended.
  void BeginRequest() { silent_records_ = 0; }

  // handler(error_code): something of the client's is there to be read, its end
  // included.
  template <typename Handler>
  void async_wait_read(Handler&& handler) {
    if (HasPending()) {
      boost::asio::post(get_executor(),
                        boost::beast::bind_handler(
                            std::forward<Handler>(handler), error_code()));
    } else {
      socket_.async_wait(Socket::wait_read, std::forward<Handler>(handler));
    }
  }
  // Whether there is already.
  bool CanRead() const;

  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (expired_) {
      boost::asio::post(
          get_executor(),
          boost::beast::bind_handler(
              std::forward<Handler>(handler),
              error_code(boost::asio::error::operation_aborted), size_t{0}));
    } else if (ssl_ == nullptr) {
      socket_.async_read_some(buffers, std::forward<Handler>(handler));
    } else {
      const auto buffer = FirstOf<boost::asio::mutable_buffer>(buffers);
      Begin(
          [this, buffer](size_t* bytes, error_code* error) {
            return TryRead(buffer, bytes, error);
          },
          std::forward<Handler>(handler));
    }
  }

  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (ssl_ == nullptr) {
      socket_.async_write_some(buffers, std::forward<Handler>(handler));
    } else {
      const auto buffer = FirstOf<boost::asio::const_buffer>(buffers);
      Begin(
          [this, buffer](size_t* bytes, error_code* error) {
            return TryWrite(buffer, bytes, error);
          },
          std::forward<Handler>(handler));
    }
  }

  // What is under way fails, and every read from now on.
  void Expire();

  // The client sees the end; what it still sends is thrown away, by
  // async_discard().
  void ShutdownSend(error_code& error);
  // handler(error_code, size_t bytes).
  template <typename Handler>
  void async_discard(Handler&& handler) {
    socket_.async_wait(
        Socket::wait_read, [this, handler = std::forward<Handler>(handler)](
                               error_code error) mutable {
          std::array<char, 4096> discarded;
          size_t bytes = 0;
          if (!error) {
            bytes = socket_.read_some(boost::asio::buffer(discarded), error);
            if (error == boost::asio::error::would_block) error = {};
          }
          handler(error, bytes);
        });
  }

  // Says so to the client, if it can be said at once.
  void Close();

 private:
  // What a step of OpenSSL waits for; nothing: it has ended.
  enum class Wait { kNone, kRead, kWrite };

  template <typename Buffer, typename Buffers>
  static Buffer FirstOf(const Buffers& buffers) {
    const auto end = boost::asio::buffer_sequence_end(buffers);
    for (auto b = boost::asio::buffer_sequence_begin(buffers); b != end; ++b) {
      if (Buffer(*b).size() > 0) return *b;
    }
    return Buffer();
  }

  // Step(bytes*, error*) until it waits for nothing.
  template <typename Step, typename Handler>
  void Begin(Step step, Handler&& handler) {
    size_t bytes = 0;
    error_code error;
    const Wait wait = step(&bytes, &error);
    if (wait == Wait::kNone) {
      boost::asio::post(get_executor(),
                        boost::beast::bind_handler(
                            std::forward<Handler>(handler), error, bytes));
    } else {
      GoOn(wait, std::move(step), std::forward<Handler>(handler));
    }
  }
  template <typename Step, typename Handler>
  void GoOn(Wait wait, Step step, Handler&& handler) {
    socket_.async_wait(
        wait == Wait::kRead ? Socket::wait_read : Socket::wait_write,
        [this, step = std::move(step),
         handler = std::forward<Handler>(handler)](error_code error) mutable {
          size_t bytes = 0;
          const Wait next = error ? Wait::kNone : step(&bytes, &error);
          if (next == Wait::kNone) {
            handler(error, bytes);
          } else {
            GoOn(next, std::move(step), std::move(handler));
          }
        });
  }

  Wait TryHandshake(error_code* error);
  Wait TryRead(boost::asio::mutable_buffer buffer, size_t* bytes,
               error_code* error);
  Wait TryWrite(boost::asio::const_buffer buffer, size_t* bytes,
                error_code* error);
  // OpenSSL's, for each record that is read or written, among other things.
  static void OnRecord(int is_write, int version, int type, const void* data,
                       size_t size, SSL* ssl, void* stream);
  // What to make of OpenSSL's answer if it is not success.
  Wait Failed(int result, error_code* error);
  // OpenSSL has bytes that it has read already.
  bool HasPending() const;
  void SayGoodbye();

  Socket socket_;
  const TlsContext* const tls_;
  std::unique_ptr<SSL, SslFree> ssl_;  // Null: in the clear, or at the end.
  bool established_ = false;
  bool failed_ = false;  // `ssl_` is of no more use.
  bool handshake_was_http_ = false;
  bool expired_ = false;
  int silent_records_ = 0;
  bool read_record_ = false;  // The last one that is counted in.
};

}  // namespace muster

#endif  // TRANSPORT_HTTP_HTTP_STREAM_H_
