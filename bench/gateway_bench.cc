// How fast do calls go out to gateways, and outcomes come back?
//
// A method job over a fleet whose devices are all behind gateways.  Server and
// gateways are processes of their own, over TCP on this machine: a gateway does
// not share the server's memory, its allocator or its threads, as in life.  The
// server is this process; a gateway is this program again, which attaches with
// its share of the fleet and answers every call at once, 200.
//
//   raw      the limit: the same frames over the same streams between the same
//            processes, with no engine and no gateway library.  Calls go out as
//            long as a gateway has credit for them; each range is answered as
//            soon as it has been read.  With a range in a frame, and with 16,
//            which is what a busy session writes.
//   memory   a whole job: create, select, send, take in, count, end; from
//            create until the job has ended.
//   disk     the same with the journal on disk, every outcome durable; as it is
//            and with every sync a millisecond slower (disk.h has why).
//   small    jobs over ten devices, one after the other, by id and by a tag
//            that all twins are asked for: from create to the first device's
//            call handed to the transport.
//   attach   how long until all devices are attached, and what one takes in the
//            server beside its twin.
//
// Rounds go from case to case; medians are printed.  Answers are checked: the
// job's statistics, the server's count of outcomes, and each gateway's count of
// calls.
//
//   gateway_bench --devices=1000000 --gateways=4 --rounds=5
#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/allocation_counter.h"
#include "bench/disk.h"
#include "bench/process.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"

namespace muster {
namespace {

using v1::AttachRequest;
using v1::AttachResponse;

constexpr uint32_t kRange = 1024;
constexpr uint32_t kCredit = 65'536;
constexpr int kThreads = 2;

struct Flags {
  int64_t devices = 1'000'000;
  int gateways = 4;
  int rounds = 5;
  int small_jobs = 1000;
  std::string cases = "raw,memory,disk,small";
  // A gateway's own.
  std::string gateway, raw;  // The server's address.
  int64_t first = 0;
  int64_t count = 0;

  bool Has(absl::string_view name) const {
    return absl::StrCat(",", cases, ",").find(absl::StrCat(",", name, ",")) !=
           std::string::npos;
  }
};

std::string IdOf(int64_t device) { return absl::StrFormat("dev-%08d", device); }

absl::Duration Now() { return Clock::Real().Monotonic(); }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

absl::Duration Quantile(std::vector<absl::Duration> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share *
                                    static_cast<double>(values.size() - 1))];
}

// -------------------------------------------------------------------- gateways

// How many calls a gateway has had: it lives until its standard input ends, and
// says so then.
int64_t EndGateway(ChildProcess& child) {
  int64_t calls = -1;
  MUSTER_CHECK(
      absl::SimpleAtoi(absl::StripAsciiWhitespace(child.End()), &calls));
  return calls;
}

class AnswerAll : public GatewayHandler {
 public:
  void OnMethods(const GatewayMethods& calls) override {
    calls_ += static_cast<int64_t>(calls.devices.size());
    MUSTER_CHECK(gateway->AnswerAll(calls.range, {.status = 200}).ok());
  }
  int64_t calls() const { return calls_; }
  Gateway* gateway = nullptr;

 private:
  int64_t calls_ = 0;
};

int RunGateway(const Flags& flags) {
  AnswerAll handler;
  auto gateway = Gateway::Connect(
      {.address = flags.gateway},
      {.name = absl::StrCat("gateway-", flags.first), .work_credit = kCredit},
      &handler);
  MUSTER_CHECK(gateway.ok());
  handler.gateway = gateway->get();
  std::vector<std::string> ids;
  std::vector<GatewayDevice> devices;
  for (int64_t i = 0; i < flags.count; ++i) {
    ids.push_back(IdOf(flags.first + i));
  }
  for (int64_t i = 0; i < flags.count; ++i) {
    devices.push_back({.token = static_cast<uint32_t>(i), .id = ids[i]});
  }
  MUSTER_CHECK((*gateway)->AddDevices(devices).ok());
  devices = {};
  ids = {};
  AwaitEndOfInput();
  (*gateway)->Stop();
  std::printf("%" PRId64 "\n", handler.calls());
  return 0;
}

// ------------------------------------------------------------------------- raw

// A gateway without the library: one frame in, one frame out.
class RawGateway final
    : public grpc::ClientBidiReactor<AttachRequest, AttachResponse> {
 public:
  explicit RawGateway(v1::GatewayService::Stub* stub) {
    stub->async()->Attach(&context_, this);
    AddHold();  // For writes that begin after reads have ended.
    out_->mutable_hello()->set_work_credit(kCredit);
    writing_ = true;
    StartWrite(out_);
    StartRead(&in_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& work : in_.methods()) {
        auto* outcomes = next_->add_outcomes();
        outcomes->set_range(work.range());
        outcomes->set_count(static_cast<uint32_t>(work.handles_size()));
        outcomes->add_statuses(200);
        calls_ += work.handles_size();
      }
      Write();
    }
    StartRead(&in_);
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (ok) Write();
  }
  void OnDone(const grpc::Status&) override {
    absl::MutexLock lock(&mutex_);
    done_ = true;
  }
  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || next_->outcomes().empty()) return;
    std::swap(next_, out_);
    next_->Clear();
    writing_ = true;
    StartWrite(out_);
  }
  int64_t End() {
    context_.TryCancel();
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
    return calls_;
  }

 private:
  grpc::ClientContext context_;
  AttachResponse in_;
  absl::Mutex mutex_;
  AttachRequest frames_[2];
  AttachRequest* out_ = &frames_[0];
  AttachRequest* next_ = &frames_[1];
  bool writing_ = false, done_ = false;
  int64_t calls_ = 0;
};

int RunRawGateway(const Flags& flags) {
  const auto stub = v1::GatewayService::NewStub(
      grpc::CreateChannel(flags.raw, grpc::InsecureChannelCredentials()));
  RawGateway gateway(stub.get());
  AwaitEndOfInput();
  std::printf("%" PRId64 "\n", gateway.End());
  return 0;
}

// The server's side of it.
class RawServer : public v1::GatewayService::CallbackService {
 public:
  RawServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~RawServer() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  void AwaitStreams(int count) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&] {
      return static_cast<int>(streams_.size()) == count;
    };
    mutex_.Await(absl::Condition(&there));
  }

  // So many executions over all streams, until all are answered.
  absl::Duration Run(int64_t executions, int ranges_per_frame) {
    const absl::Duration start = Now();
    for (Stream* stream : streams_) {
      stream->Begin(executions / static_cast<int64_t>(streams_.size()),
                    ranges_per_frame);
    }
    for (Stream* stream : streams_) stream->AwaitEnd();
    return Now() - start;
  }

  grpc::ServerBidiReactor<AttachRequest, AttachResponse>* Attach(
      grpc::CallbackServerContext* context) override {
    return new Stream(this);
  }

 private:
  class Stream final
      : public grpc::ServerBidiReactor<AttachRequest, AttachResponse> {
   public:
    explicit Stream(RawServer* server) : server_(server) { StartRead(&in_); }

    void Begin(int64_t executions, int ranges_per_frame) {
      absl::MutexLock lock(&mutex_);
      to_send_ = to_answer_ = executions;
      ranges_per_frame_ = ranges_per_frame;
      Write();
    }
    void AwaitEnd() {
      absl::MutexLock lock(&mutex_);
      const auto over = [this] { return to_answer_ == 0; };
      mutex_.Await(absl::Condition(&over));
    }

    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (in_.has_hello()) {
        absl::MutexLock lock(&server_->mutex_);
        server_->streams_.push_back(this);
      }
      {
        absl::MutexLock lock(&mutex_);
        for (const auto& outcomes : in_.outcomes()) {
          MUSTER_CHECK(outcomes.statuses(0) == 200);
          to_answer_ -= outcomes.count();
          unanswered_ -= outcomes.count();
        }
        Write();
      }
      StartRead(&in_);
    }
    void OnWriteDone(bool ok) override {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (ok) Write();
    }
    void OnDone() override { delete this; }

   private:
    void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      if (writing_) return;
      out_.Clear();
      for (int i = 0; i < ranges_per_frame_ && to_send_ != 0; ++i) {
        const auto size =
            static_cast<uint32_t>(std::min<int64_t>(to_send_, kRange));
        if (unanswered_ + size > kCredit) break;
        auto* work = out_.add_methods();
        work->set_range(++range_);
        work->set_method_name("reboot");
        work->set_payload("null");
        work->set_response_timeout_ms(30'000);
        work->mutable_handles()->Resize(static_cast<int>(size), 0);
        for (uint32_t h = 0; h < size; ++h) {
          work->set_handles(static_cast<int>(h),
                            static_cast<uint32_t>(to_send_) - h);
        }
        to_send_ -= size;
        unanswered_ += size;
      }
      if (out_.methods().empty()) return;
      writing_ = true;
      StartWrite(&out_);
    }

    RawServer* const server_;
    AttachRequest in_;
    absl::Mutex mutex_;
    AttachResponse out_;
    int64_t to_send_ = 0, to_answer_ = 0, unanswered_ = 0;
    int ranges_per_frame_ = 1;
    uint32_t range_ = 0;
    bool writing_ = false;
  };

  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  absl::Mutex mutex_;
  std::vector<Stream*> streams_;
};

// ---------------------------------------------------------------------- Muster

// Passes everything on and notes when a method of some name was sent first.
class WatchedTransport : public Transport {
 public:
  static constexpr char kAwaited[] = "awaited";

  explicit WatchedTransport(Transport* inner) : inner_(inner) {}
  void Start(TransportSink* sink) override { inner_->Start(sink); }
  size_t Send(const MethodBatch& batch) override {
    if (batch.method->name == kAwaited) {
      int64_t never = 0;
      first_sent_ns_.compare_exchange_strong(never,
                                             absl::ToInt64Nanoseconds(Now()));
    }
    return inner_->Send(batch);
  }
  void NotifyDesired(absl::Span<const DesiredNotification> n) override {
    inner_->NotifyDesired(n);
  }
  void Disconnect(absl::Span<const uint64_t> links) override {
    inner_->Disconnect(links);
  }
  bool wants_device_ids() const override { return inner_->wants_device_ids(); }
  void Shutdown() override { inner_->Shutdown(); }

  void Await() { first_sent_ns_.store(0); }
  absl::Duration FirstSent() const {
    return absl::Nanoseconds(first_sent_ns_.load());
  }

 private:
  Transport* const inner_;
  std::atomic<int64_t> first_sent_ns_{0};
};

// Of this process, all threads.
class Server {
 public:
  Server(const Flags& flags, bool on_disk) : flags_(flags) {
    if (on_disk) {
      folder_ = std::make_unique<TempFolder>("gateway_bench_journal");
      journal_ = *RocksDbJournal::Open(
          {.directory = absl::StrCat(folder_->path(), "/data")});
    }
    executor_ = MakeThreadExecutor(kThreads);
    gateways_ = *GatewayTransport::Create(
        {.clock = &Clock::Real(), .executor = executor_.get()});
    transport_ = std::make_unique<WatchedTransport>(gateways_.get());
    engine_ = *Engine::Create({.transport = transport_.get(),
                               .executor = executor_.get(),
                               .journal = journal_.get()});
    LoadFleet();
    guard_ = std::make_unique<CallGuard>(CallGuard::Options{});
    service_ = MakeGatewayService(gateways_.get(), guard_.get());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }

  ~Server() {
    int64_t calls = 0;
    for (ChildProcess& child : children_) calls += EndGateway(child);
    MUSTER_CHECK(calls == executions_);
    MUSTER_CHECK(gateways_->totals().outcomes == executions_);
    MUSTER_CHECK(gateways_->totals().outcomes_dropped == 0);
    gateways_->Shutdown();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  // Starts the gateways and waits until all devices are attached.
  void Attach() {
    const int64_t allocated = AllocatedBytes();
    const int64_t resident = ResidentBytes();
    const absl::Duration start = Now();
    for (int g = 0; g < flags_.gateways; ++g) {
      const int64_t first = flags_.devices * g / flags_.gateways;
      const int64_t end = flags_.devices * (g + 1) / flags_.gateways;
      children_.emplace_back(std::vector<std::string>{
          absl::StrCat("--gateway=", address_), absl::StrCat("--first=", first),
          absl::StrCat("--count=", end - first)});
    }
    while (Attached() != flags_.devices) absl::SleepFor(absl::Milliseconds(1));
    const absl::Duration took = Now() - start;
    absl::SleepFor(absl::Milliseconds(100));  // What is freed is freed.
    const auto devices = static_cast<double>(flags_.devices);
    std::printf(
        "attach   %s   %.1f B a device allocated, %.1f B resident\n",
        absl::FormatDuration(absl::Trunc(took, absl::Milliseconds(1))).c_str(),
        static_cast<double>(AllocatedBytes() - allocated) / devices,
        static_cast<double>(ResidentBytes() - resident) / devices);
  }

  int64_t Attached() const {
    int64_t devices = 0;
    for (const AttachedGateway& gateway : gateways_->gateways()) {
      devices += gateway.devices;
    }
    return devices;
  }

  // A job over all devices: how long it took.
  absl::Duration Run() {
    const absl::Duration start = Now();
    RunJob("reboot", "*", flags_.devices);
    return Now() - start;
  }

  // Prints how long jobs over ten devices wait.
  void RunSmall(const char* name, bool by_tag) {
    std::vector<absl::Duration> first, whole;
    for (int i = 0; i < flags_.small_jobs; ++i) {
      const int64_t tag = i * 31 % 400;
      std::string condition = "deviceId IN [";
      for (int64_t d = 0; d < 10; ++d) {
        absl::StrAppend(&condition, d == 0 ? "'" : ", '",
                        IdOf((tag + 400 * (d * 37 + i)) % flags_.devices), "'");
      }
      condition += "]";
      if (by_tag) absl::StrAppend(&condition, " AND tags.building = ", tag);
      transport_->Await();
      const absl::Duration start = Now();
      RunJob(WatchedTransport::kAwaited, condition, 10);
      whole.push_back(Now() - start);
      first.push_back(transport_->FirstSent() - start);
    }
    const auto ms = [](absl::Duration d) {
      return absl::ToDoubleMilliseconds(d);
    };
    std::printf(
        "small    %-9s  first dispatch p50 %.2f ms, p99 %.2f ms, max %.2f ms; "
        "whole job p50 %.2f ms, p99 %.2f ms\n",
        name, ms(Quantile(first, .5)), ms(Quantile(first, .99)),
        ms(Quantile(first, 1)), ms(Quantile(whole, .5)),
        ms(Quantile(whole, .99)));
  }

 private:
  void LoadFleet() {
    const TempFolder folder("gateway_bench_fleet");
    const std::string path = absl::StrCat(folder.path(), "/twins.jsonl");
    std::FILE* file = std::fopen(path.c_str(), "w");
    MUSTER_CHECK(file != nullptr);
    for (int64_t i = 0; i < flags_.devices; ++i) {
      absl::FPrintF(file, "{\"deviceId\":\"%s\",\"tags\":{\"building\":%d}}\n",
                    IdOf(i), i % 400);
    }
    MUSTER_CHECK(std::fclose(file) == 0);
    const auto loaded = engine_->LoadTwins(path);
    MUSTER_CHECK(loaded.ok() && loaded->loaded == flags_.devices);
    MUSTER_CHECK(engine_->WriteSnapshots().ok());
  }

  void RunJob(const char* method, const std::string& condition,
              int64_t devices) {
    JobRequest job;
    job.job_id = absl::StrCat("job-", ++jobs_);
    job.query_condition = condition;
    job.action = MethodAction{.method_name = method};
    MUSTER_CHECK(engine_->CreateJob(job).ok());
    const JobInfo done = *engine_->WaitJob(job.job_id);
    executions_ += devices;
    MUSTER_CHECK(done.status == JobStatus::kCompleted);
    MUSTER_CHECK(
        (*done.statistics == JobStatistics{devices, 0, devices, 0, 0}));
  }

  const Flags& flags_;
  std::unique_ptr<TempFolder> folder_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GatewayTransport> gateways_;
  std::unique_ptr<WatchedTransport> transport_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<CallGuard> guard_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::vector<ChildProcess> children_;
  int64_t jobs_ = 0;
  int64_t executions_ = 0;
};

int Run(const Flags& flags) {
  std::printf("%d devices, %d gateways (processes), %s\n",
              static_cast<int>(flags.devices), flags.gateways,
              MachineLoad().c_str());
  RawServer raw_server;
  std::vector<ChildProcess> raw_children;
  if (flags.Has("raw")) {
    for (int g = 0; g < flags.gateways; ++g) {
      raw_children.emplace_back(std::vector<std::string>{
          absl::StrCat("--raw=", raw_server.address())});
    }
    raw_server.AwaitStreams(flags.gateways);
  }
  std::unique_ptr<Server> memory, disk;
  if (flags.Has("memory") || flags.Has("small")) {
    memory = std::make_unique<Server>(flags, /*on_disk=*/false);
    memory->Attach();
  }
  if (flags.Has("disk")) {
    disk = std::make_unique<Server>(flags, /*on_disk=*/true);
    disk->Attach();
  }
  if (flags.Has("small")) {
    memory->RunSmall("by id", /*by_tag=*/false);
    memory->RunSmall("by a tag", /*by_tag=*/true);
  }

  struct Case {
    const char* name;
    std::function<absl::Duration()> run;
    std::vector<double> rates = {};
    std::vector<double> cpu_ns = {};  // The server's, for an execution.
  };
  std::vector<Case> cases;
  if (flags.Has("raw")) {
    cases.push_back(
        {"raw, 1 range", [&] { return raw_server.Run(flags.devices, 1); }});
    cases.push_back(
        {"raw, 16", [&] { return raw_server.Run(flags.devices, 16); }});
  }
  if (flags.Has("memory")) {
    cases.push_back({"memory", [&] { return memory->Run(); }});
  }
  if (flags.Has("disk")) {
    cases.push_back({"disk", [&] { return disk->Run(); }});
    cases.push_back({"disk, 1 ms", [&] {
                       SetSyncDelay(absl::Milliseconds(1));
                       const absl::Duration took = disk->Run();
                       SetSyncDelay(absl::ZeroDuration());
                       return took;
                     }});
  }
  int64_t raw_calls = 0;
  for (int round = -1; round < flags.rounds; ++round) {
    for (Case& c : cases) {
      const absl::Duration cpu = CpuTime();
      const absl::Duration took = c.run();
      if (absl::StartsWith(c.name, "raw")) {
        raw_calls += flags.devices / flags.gateways * flags.gateways;
      }
      if (round < 0) continue;  // Pools and buffers get their size.
      c.rates.push_back(static_cast<double>(flags.devices) /
                        absl::ToDoubleSeconds(took));
      c.cpu_ns.push_back(absl::ToDoubleNanoseconds(CpuTime() - cpu) /
                         static_cast<double>(flags.devices));
    }
  }
  for (const Case& c : cases) {
    std::printf("%-13s %6.2f M executions/s, %3.0f ns of the server's CPU each",
                c.name, Median(c.rates) / 1e6, Median(c.cpu_ns));
    if (flags.Has("raw")) {
      std::printf("   %.2f of raw with 1 range a frame, %.2f with 16",
                  Median(c.rates) / Median(cases[0].rates),
                  Median(c.rates) / Median(cases[1].rates));
    }
    std::printf("   [");
    for (const double rate : c.rates) std::printf(" %.1f", rate / 1e6);
    std::printf(" ]\n");
  }
  int64_t calls = 0;
  for (ChildProcess& child : raw_children) calls += EndGateway(child);
  MUSTER_CHECK(calls == raw_calls);
  return 0;
}

bool ParseFlag(absl::string_view argument, Flags* flags) {
  const auto number = [&](absl::string_view name, auto* value) {
    return absl::ConsumePrefix(&argument, name) &&
           absl::SimpleAtoi(argument, value);
  };
  const auto text = [&](absl::string_view name, std::string* value) {
    if (!absl::ConsumePrefix(&argument, name)) return false;
    *value = std::string(argument);
    return true;
  };
  return number("--devices=", &flags->devices) ||
         number("--gateways=", &flags->gateways) ||
         number("--rounds=", &flags->rounds) ||
         number("--small_jobs=", &flags->small_jobs) ||
         text("--cases=", &flags->cases) ||
         text("--gateway=", &flags->gateway) || text("--raw=", &flags->raw) ||
         number("--first=", &flags->first) || number("--count=", &flags->count);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  muster::Flags flags;
  for (int i = 1; i < argc; ++i) {
    if (muster::ParseFlag(argv[i], &flags)) continue;
    const bool is_help = argv[i] == absl::string_view("--help");
    if (!is_help) {
      std::fprintf(stderr, "gateway_bench: cannot use %s\n", argv[i]);
    }
    std::fprintf(is_help ? stdout : stderr,
                 "  --devices=1000000 --gateways=4 --rounds=5 "
                 "--small_jobs=1000\n  --cases=raw,memory,disk,small\n");
    return is_help ? 0 : 2;
  }
  if (!flags.gateway.empty()) return muster::RunGateway(flags);
  if (!flags.raw.empty()) return muster::RunRawGateway(flags);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return muster::Run(flags);
}
