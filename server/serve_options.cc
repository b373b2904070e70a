#include "server/serve_options.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transport/grpc/address.h"

namespace muster {

std::vector<Flag> ServeFlags(ServeOptions* o) {
  std::vector<Flag> flags = {
      {"listen", "HOST:PORT",
       "where it serves (127.0.0.1:7040); give the flag once\n"
       "for each address. Port 0: one that is free",
       &o->listen},
      {"http", "HOST:PORT",
       "where it serves the hub's own REST API, for clients of\n"
       "its SDKs (they want port 443 and TLS); give the flag\n"
       "once for each address",
       &o->http},
      {"dev", "",
       "a whole hub for development: --http with a certificate\n"
       "and a key of its own, kept in --data (muster-dev), at\n"
       "port 443 of this machine, or 8443 if that cannot be\n"
       "had; it shows the connection string",
       &o->dev},
      {"devices", "N",
       "with --dev: that many devices, dev-00000000 and so on,\n"
       "registered and simulated (0)",
       IntFlag{&o->devices, 0, 1'000'000}},
      {"data", "DIR",
       "keep everything in this folder; if it has something,\n"
       "go on with that. Without it all is gone at the end",
       &o->data},
      {"metrics", "HOST:PORT",
       "where Prometheus reads /metrics, and a load balancer\n"
       "/healthz: HTTP, open to whoever reaches it",
       &o->metrics},
      {"tls-cert", "FILE", "this server's certificate: it speaks TLS then",
       &o->tls_cert},
      {"tls-key", "FILE", "and its key", &o->tls_key},
      {"tls-client-ca", "FILE",
       "clients show a certificate that this one has signed",
       &o->tls_client_ca},
      {"tls-client-optional", "", "clients may show a token instead",
       &o->tls_client_optional},
      {"gateway", "HOST:PORT",
       "a gateway that listens, to be dialled; give the flag\n"
       "once for each. MUSTER_GATEWAY_TOKEN: the token that\n"
       "they want",
       &o->gateways},
      {"gateway-tls-ca", "FILE",
       "who has signed these gateways' certificates: they\n"
       "speak TLS then",
       &o->gateway_tls_ca},
      {"insecure", "",
       "listen in plaintext or let everybody in at addresses\n"
       "that others reach, dial gateways there in plaintext,\n"
       "and take plaintext at --http",
       &o->insecure},
      {"drain-seconds", "N", "what calls have to end when it ends (30)",
       IntFlag{&o->drain_seconds, 0, 3600}},
      {"calls-max", "N", "calls under way (1024); one more is refused",
       IntFlag{&o->calls_max, 1, 1'000'000}},
      {"streams-max", "N", "watches, queries and imports (4096)",
       IntFlag{&o->streams_max, 1, 1'000'000}},
      {"bulk-streams-max", "N", "imports and streamed queries among them (64)",
       IntFlag{&o->bulk_streams_max, 1, 10'000}},
      {"gateways-max", "N", "gateways that are attached (1024)",
       IntFlag{&o->gateways_max, 1, 65'535}},
      {"gateway-devices-max", "N", "devices of one gateway (1048576)",
       IntFlag{&o->gateway_devices_max, 1, 16'777'216}},
      {"http-threads", "N", "for --http: requests that wait for the disk (16)",
       IntFlag{&o->http_threads, 1, 256}},
      {"http-connections-max", "N", "at each address of --http (4096)",
       IntFlag{&o->http_connections_max, 1, 1'000'000}},
      {"message-bytes-max", "N", "of a message that a client sends (4194304)",
       IntFlag{&o->message_bytes_max, 64 << 10, 64 << 20}},
      {"query-cost-max", "N",
       "of a query: twins x comparisons (20000000000); one\n"
       "that is evaluated twin by twin, as CONCAT, counts as\n"
       "about 1000. 10^10 take about a second of a processor",
       IntFlag{&o->query_cost_max, 1, INT64_MAX}},
      {"quiet", "", "no progress, and nothing on standard error but errors",
       &o->quiet},
  };
  return WithEngineFlags(&o->engine,
                         WithAccessFlags(&o->access, std::move(flags)));
}

namespace {

// What --dev makes itself.
absl::Status CheckDev(const Arguments& arguments) {
  for (const absl::string_view flag :
       {"access", "policy", "tls-cert", "tls-key", "tls-client-ca"}) {
    if (arguments.Has(flag)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--dev makes its own certificate and policy, and has "
                       "no --",
                       flag));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckServeOptions(const ServeOptions& o,
                               const Arguments& arguments) {
  if (arguments.Has("sync") && o.data.empty()) {
    return absl::InvalidArgumentError(
        "--sync says how --data keeps, which is missing");
  }
  if (o.tls_cert.empty() != o.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert and --tls-key go together: one is missing");
  }
  if (!o.tls_client_ca.empty() && o.tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "--tls-client-ca needs --tls-cert and --tls-key");
  }
  if (o.tls_client_optional && o.tls_client_ca.empty()) {
    return absl::InvalidArgumentError(
        "--tls-client-optional needs --tls-client-ca");
  }
  if (absl::Status status =
          o.dev ? CheckDev(arguments) : CheckAccessFlags(o.access);
      !status.ok()) {
    return status;
  }
  if (!o.dev && arguments.Has("devices")) {
    return absl::InvalidArgumentError(
        "--devices needs --dev; see also: fleet simulate");
  }
  if (!o.gateway_tls_ca.empty() && o.gateways.empty()) {
    return absl::InvalidArgumentError("--gateway-tls-ca needs --gateway");
  }
  for (const auto& [flag, addresses] : {std::pair("--listen", &o.listen),
                                        {"--http", &o.http},
                                        {"--gateway", &o.gateways}}) {
    for (const std::string& address : *addresses) {
      if (HasPort(address)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(flag, " must be HOST:PORT; got \"", address, "\""));
    }
  }
  for (const absl::string_view flag :
       {"http-threads", "http-connections-max"}) {
    if (!o.dev && o.http.empty() && arguments.Has(flag)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, " needs --http"));
    }
  }
  if (o.insecure) return absl::OkStatus();
  for (const std::string& address : o.gateways) {
    if (IsLoopback(address) || !o.gateway_tls_ca.empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "everybody on the way to the gateway at ", address,
        " could read and change what is said: --gateway-tls-ca, or "
        "--insecure if you mean it"));
  }
  if (!o.dev && !o.http.empty() && o.tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "clients of the hub's API speak TLS alone: --http needs --tls-cert and "
        "--tls-key, or --insecure if something before it ends TLS");
  }
  std::vector<std::string> addresses = o.listen;
  // That of --dev has both.
  if (!o.dev) addresses.insert(addresses.end(), o.http.begin(), o.http.end());
  for (const std::string& address : addresses) {
    if (IsLoopback(address)) continue;
    if (o.tls_cert.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "others reach ", address,
          ", and everybody on the way could read and change what is said: "
          "--tls-cert and --tls-key, or --insecure if you mean it"));
    }
    if (!o.access.given()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "others reach ", address,
          ", and everybody could do everything: --access FILE, --policy, or "
          "--insecure if you mean it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster
