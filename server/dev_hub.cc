#include "server/dev_hub.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/error.h"
#include "engine/model/identity.h"
#include "openssl/bio.h"
#include "openssl/pem.h"
#include "openssl/x509.h"
#include "openssl/x509v3.h"
#include "server/files.h"
#include "transport/auth/sas_token.h"
#include "transport/http/self_signed.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

constexpr int kHttpsPort = 443;
constexpr size_t kFileSizeMax = size_t{64} << 10;
constexpr size_t kKeySize = 32;
// Devices that are registered at a time.
constexpr int64_t kBatch = 500;

std::string RandomKey(const RandomSource& random) {
  std::array<uint8_t, kKeySize> bytes;
  random(absl::MakeSpan(bytes));
  return absl::Base64Escape(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// A file that nobody else can read, whole or not at all.
absl::Status WriteSecret(const std::string& path, absl::string_view text) {
  const std::string partial = path + ".partial";
  unlink(partial.c_str());
  const int fd = open(partial.c_str(),
                      O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                      S_IRUSR | S_IWUSR);
  if (fd < 0) return FileError(partial, errno);
  while (!text.empty()) {
    const ssize_t size = write(fd, text.data(), text.size());
    if (size < 0) {
      const int error_number = errno;
      close(fd);
      return FileError(partial, error_number);
    }
    text.remove_prefix(static_cast<size_t>(size));
  }
  const bool synced = fsync(fd) == 0;
  const int error_number = errno;
  close(fd);
  if (!synced) return FileError(partial, error_number);
  if (rename(partial.c_str(), path.c_str()) != 0) return FileError(path, errno);
  return absl::OkStatus();
}

// Whether a certificate in PEM is for a host of that name.
bool IsFor(absl::string_view pem, const std::string& name) {
  BIO* const bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509* const certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  const bool is_for = certificate != nullptr &&
                      (X509_check_host(certificate, name.data(), name.size(), 0,
                                       nullptr) == 1 ||
                       X509_check_ip_asc(certificate, name.c_str(), 0) == 1);
  X509_free(certificate);
  BIO_free(bio);
  return is_for;
}

absl::Status MakeCertificate(const DevFiles& files, const std::string& hub_name,
                             absl::Time now) {
  std::vector<std::string> names = {kDevHubName, "127.0.0.1", "::1"};
  if (std::find(names.begin(), names.end(), hub_name) == names.end()) {
    names.insert(names.begin(), hub_name);
  }
  const absl::StatusOr<CertificateAndKey> made = MakeSelfSigned(names, now);
  if (!made.ok()) return made.status();
  // A certificate without its key is made anew, so that an end in between does
  // no harm.
  if (unlink(files.key_path.c_str()) != 0 && errno != ENOENT) {
    return FileError(files.key_path, errno);
  }
  if (absl::Status s = WriteSecret(files.certificate_path, made->certificate);
      !s.ok()) {
    return s;
  }
  return WriteSecret(files.key_path, made->key);
}

bool IsThere(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

}  // namespace

absl::StatusOr<DevFiles> OpenDevFiles(const std::string& data,
                                      const std::string& hub_name,
                                      absl::Time now,
                                      const RandomSource& random) {
  std::error_code error;
  const std::string folder = std::filesystem::absolute(data, error) / "dev";
  if (error) return FileError(data, error.value());
  if (mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    return FileError(folder, errno);
  }
  DevFiles files;
  files.certificate_path = absl::StrCat(folder, "/cert.pem");
  files.key_path = absl::StrCat(folder, "/key.pem");
  files.policy_key_path = absl::StrCat(folder, "/policy.key");

  if (!IsThere(files.policy_key_path)) {
    if (absl::Status s = WriteSecret(files.policy_key_path,
                                     absl::StrCat(RandomKey(random), "\n"));
        !s.ok()) {
      return s;
    }
  }
  absl::StatusOr<std::string> key =
      ReadFile(files.policy_key_path, kFileSizeMax);
  if (!key.ok()) return key.status();
  files.policy_key = std::string(absl::StripAsciiWhitespace(*key));
  if (absl::Status s = SasKey::FromBase64(files.policy_key).status(); !s.ok()) {
    return PrefixError(absl::StrCat(files.policy_key_path, ": "), s);
  }

  if (IsThere(files.certificate_path) && IsThere(files.key_path)) {
    const absl::StatusOr<std::string> certificate =
        ReadFile(files.certificate_path, kFileSizeMax);
    if (!certificate.ok()) return certificate.status();
    if (IsFor(*certificate, hub_name)) return files;
  }
  if (absl::Status s = MakeCertificate(files, hub_name, now); !s.ok()) return s;
  files.made_certificate = true;
  return files;
}

absl::StatusOr<std::shared_ptr<const Access>> MakeDevAccess(
    const DevFiles& files, const std::string& hub_name,
    DeviceKeys device_keys) {
  absl::StatusOr<SasKey> key = SasKey::FromBase64(files.policy_key);
  if (!key.ok()) return key.status();
  return Access::Create(
      {.hub_name = hub_name,
       .default_policies = {{.name = kDevPolicy, .keys = {*std::move(key)}}},
       .device_keys = std::move(device_keys)});
}

absl::Span<const int> DevPorts() {
  static constexpr int kPorts[] = {kHttpsPort, 8443};
  return kPorts;
}

absl::StatusOr<std::unique_ptr<HubServer>> StartDevHub(
    HubServerOptions options, absl::Span<const int> ports,
    std::vector<std::string>* listen) {
  absl::Status error;
  for (const int port : ports) {
    const std::string v4 = absl::StrCat("127.0.0.1:", port);
    // What "localhost" stands for differs: with both, every client finds one.
    options.listen = {v4, absl::StrCat("[::1]:", port)};
    absl::StatusOr<std::unique_ptr<HubServer>> hub = HubServer::Start(options);
    if (!hub.ok()) {
      options.listen = {v4};
      hub = HubServer::Start(options);
    }
    if (hub.ok()) {
      *listen = options.listen;
      return hub;
    }
    error = hub.status();
  }
  return error;
}

absl::StatusOr<int64_t> RegisterDevDevices(
    Engine& engine, int64_t count, const RandomSource& random,
    absl::FunctionRef<void(int64_t done)> progress) {
  const FleetGenerator fleet;
  int64_t made = 0;
  for (int64_t first = 0; first < count; first += kBatch) {
    const int64_t end = std::min(count, first + kBatch);
    std::vector<DeviceOperation> operations;
    for (int64_t row = first; row < end; ++row) {
      DeviceOperation operation;
      operation.device.device_id = absl::StrFormat("dev-%08d", row);
      operation.device.primary_key = RandomKey(random);
      operation.device.secondary_key = RandomKey(random);
      operations.push_back(std::move(operation));
    }
    const std::vector<absl::Status> answers = engine.ChangeDevices(operations);
    // Their tags and properties, which the registry does not make.
    std::vector<std::string> twins;
    for (int64_t i = 0; i < end - first; ++i) {
      const absl::Status& answer = answers[static_cast<size_t>(i)];
      if (ErrorCodeOf(answer) == ErrorCode::kDeviceAlreadyExists) continue;
      if (!answer.ok()) return answer;
      fleet.AppendTwin(static_cast<uint32_t>(first + i), &twins.emplace_back());
    }
    const std::vector<absl::string_view> documents(twins.begin(), twins.end());
    const absl::StatusOr<std::vector<absl::Status>> written =
        engine.UpsertTwins(documents);
    if (!written.ok()) return written.status();
    for (const absl::Status& status : *written) {
      if (!status.ok()) return status;
    }
    made += static_cast<int64_t>(twins.size());
    progress(end);
  }
  return made;
}

LoopbackOptions DevDevices() {
  LoopbackOptions devices;
  devices.latency.distribution = LoopbackLatency::Distribution::kUniform;
  devices.latency.min = absl::Milliseconds(5);
  devices.latency.max = absl::Milliseconds(50);
  devices.response_payload = R"({"method":"${method}","payload":"${payload}"})";
  return devices;
}

std::string DevHubText(const DevFiles& files, absl::string_view hub_name,
                       int port, absl::string_view muster) {
  const std::string url = absl::StrCat(
      "https://", hub_name, port == kHttpsPort ? "" : absl::StrCat(":", port));
  std::string text = absl::StrCat(
      "\nThe connection string, for clients of the hub's SDKs:\n\n  HostName=",
      hub_name, ";SharedAccessKeyName=", kDevPolicy,
      ";SharedAccessKey=", files.policy_key,
      "\n\nWhat makes them trust this hub (Node.js, at the start of a "
      "process):\n\n  export NODE_EXTRA_CA_CERTS=",
      files.certificate_path, "\n");
  if (port != kHttpsPort) {
    absl::StrAppend(
        &text, "\nThe SDKs know no port but ", kHttpsPort,
        ". Where that one is for root alone, this\ngives it to all:\n\n  sudo "
        "sysctl net.ipv4.ip_unprivileged_port_start=",
        kHttpsPort, "\n\nOr lead each client to ", port,
        ": docs/service.md, \"Another port\".\n");
  }
  absl::StrAppend(&text, "\nNext, in another shell:\n  curl --cacert ",
                  files.certificate_path, " \\\n    -H \"Authorization: $(",
                  muster, " token --hub ", hub_name, " --policy ", kDevPolicy,
                  " --key-file ", files.policy_key_path, ")\" \\\n    \"", url,
                  "/devices?api-version=2021-04-12\"\n");
  return text;
}

}  // namespace muster
