// What does a request of the hub's REST surface cost over TLS, and how many of
// them go?
//
// GET of a job, through HttpServer and HubService, with a shared access
// signature that is verified each time.  The server is this process, serving
// from one thread; clients are this program again, so that what the server
// uses, time and memory, can be told.  Every answer is checked: its status,
// what has to be in it, and that it is the same each time.
//
//   constant  the limit: the same server, and a handler that answers with the
//             same bytes without looking at the request.  Closed loop.
//   job       the hub's answer.  Closed loop: as many as go.
//   rate      the hub's answer, requests due at fixed times (10,000 a second):
//             latencies from when a request was due until its answer was there.
//   idle      the same beside connections without a request, and what one of
//             them takes in the server.
//   connect   every request on a connection of its own: a whole handshake each,
//             and then one that goes on with the session of the one before.
//
// Rounds go from case to case; medians are printed.
//
//   http_bench --seconds=5 --rounds=3 --rate=10000 --connections=32 --idle=1000
#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/disk.h"
#include "bench/http_load.h"
#include "bench/process.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "transport/auth/access.h"
#include "transport/auth/sas_token.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"
#include "transport/http/self_signed.h"

namespace muster {
namespace {

constexpr char kHubName[] = "localhost";
constexpr char kPolicy[] = "iothubowner";
constexpr char kKey[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr int kJobs = 16;
constexpr int kTwins = 1000;

struct Flags {
  int seconds = 5;
  int rounds = 3;
  int rate = 10'000;
  int connections = 32;
  int idle = 1000;
  std::string cases = "constant,job,rate,idle,connect";
  // A client's own.
  std::string
      client;  // What it does: constant, closed, open, hold, connect, resume.
  int port = 0;
  std::string ca;

  bool Has(absl::string_view name) const {
    return absl::StrCat(",", cases, ",").find(absl::StrCat(",", name, ",")) !=
           std::string::npos;
  }
};

// -------------------------------------------------------------------- clients

std::string JobId(int job) { return absl::StrCat("job-", job); }

std::string Target(int job) {
  return absl::StrCat("/jobs/v2/", JobId(job), "?api-version=2021-04-12");
}

std::string Token() {
  return SasKey::FromBase64(kKey).value().MakeToken(
      kHubName, kPolicy, Clock::Real().Now() + absl::Hours(1));
}

// Prints "warm" when it has warmed up, and then
// "<requests> <ns> <p50 ns> <p99 ns> <p99.9 ns> <max ns>".
int RunClient(const Flags& flags) {
  HttpLoad load;
  load.port = flags.port;
  load.ca_path = flags.ca;
  load.authorization = Token();
  for (int i = 0; i < kJobs; ++i) {
    load.targets.push_back(Target(i));
    load.expected.push_back(absl::StrCat(
        "\"jobId\":\"", JobId(flags.client == "constant" ? 0 : i), "\""));
  }
  load.connections = flags.connections;
  load.time = absl::Seconds(flags.seconds);
  const auto say = [](absl::string_view line) {
    std::printf("%s\n", std::string(line).c_str());
    std::fflush(stdout);
  };
  if (flags.client == "hold") {
    HoldConnections(load, [&] {
      say("held");
      AwaitEndOfInput();
    });
    return 0;
  }
  if (flags.client == "open") load.rate = flags.rate;
  load.resume = flags.client == "resume";
  load.connect_each = load.resume || flags.client == "connect";
  const HttpLoadResult result = RunHttpLoad(load, [&] { say("warm"); });
  say(absl::StrCat(result.requests, " ", absl::ToInt64Nanoseconds(result.time),
                   " ", absl::ToInt64Nanoseconds(result.Latency(.5)), " ",
                   absl::ToInt64Nanoseconds(result.Latency(.99)), " ",
                   absl::ToInt64Nanoseconds(result.Latency(.999)), " ",
                   absl::ToInt64Nanoseconds(result.Latency(1))));
  AwaitEndOfInput();
  return 0;
}

// --------------------------------------------------------------------- server

class Server {
 public:
  explicit Server(const Flags& flags)
      : flags_(flags), folder_("http_bench"), executor_(MakeThreadExecutor(2)) {
    const CertificateAndKey made =
        MakeSelfSigned({kHubName}, Clock::Real().Now()).value();
    Write(certificate(), made.certificate);
    Write(key(), made.key);
    engine_ = Engine::Create({}).value();
    MakeJobs();
    hub_ = std::make_unique<HubService>(HubServiceOptions{
        .engine = engine_.get(),
        .access =
            Access::Create({.hub_name = kHubName,
                            .default_policies =
                                {{.name = kPolicy,
                                  .keys = {SasKey::FromBase64(kKey).value()}}}})
                .value(),
        .executor = executor_.get()});
    jobs_ = Listen(
        [this](const HttpRequest& header) { return hub_->Admit(header); });
    constant_ = Listen(
        [answer = AnswerToFirstJob()](const HttpRequest&, HttpReply reply) {
          std::move(reply)(answer);
        });
  }
  ~Server() {
    constant_->Stop(absl::Seconds(10));
    jobs_->Stop(absl::Seconds(10));
    engine_->Stop();
  }

  struct Figures {
    double rate = 0;    // Requests a second.
    double cpu_us = 0;  // The server's, for each.
    double p50_ms = 0, p99_ms = 0, p999_ms = 0, max_ms = 0;
  };

  // A client of that kind, from warm-up to end.
  Figures Run(const char* client) {
    ChildProcess child(Arguments(client, flags_.connections));
    MUSTER_CHECK(child.ReadLine() == "warm");
    const absl::Duration before = CpuTime();
    const std::string line = child.ReadLine();
    const absl::Duration cpu = CpuTime() - before;
    child.End();
    std::vector<int64_t> numbers;
    for (const absl::string_view text : absl::StrSplit(line, ' ')) {
      MUSTER_CHECK(absl::SimpleAtoi(text, &numbers.emplace_back()));
    }
    MUSTER_CHECK(numbers.size() == 6 && numbers[0] > 0);
    const auto requests = static_cast<double>(numbers[0]);
    const auto ms = [&](int i) {
      return static_cast<double>(numbers[i]) / 1e6;
    };
    return {.rate = requests * 1e9 / static_cast<double>(numbers[1]),
            .cpu_us = absl::ToDoubleMicroseconds(cpu) / requests,
            .p50_ms = ms(2),
            .p99_ms = ms(3),
            .p999_ms = ms(4),
            .max_ms = ms(5)};
  }

  // Connections that stay open, and what one of them takes.
  ChildProcess Hold(double* bytes_each) {
    // What the first ones leave behind stays.
    ChildProcess(Arguments("hold", flags_.connections)).End();
    const int64_t before = ResidentBytes();
    ChildProcess child(Arguments("hold", flags_.idle));
    MUSTER_CHECK(child.ReadLine() == "held");
    *bytes_each = static_cast<double>(ResidentBytes() - before) / flags_.idle;
    return child;
  }

 private:
  std::string certificate() const { return folder_.path() + "/cert.pem"; }
  std::string key() const { return folder_.path() + "/key.pem"; }

  static void Write(const std::string& path, const std::string& text) {
    std::FILE* const file = std::fopen(path.c_str(), "w");
    MUSTER_CHECK(file != nullptr &&
                 std::fwrite(text.data(), 1, text.size(), file) ==
                     text.size() &&
                 std::fclose(file) == 0);
  }

  HttpResponse AnswerToFirstJob() {
    HttpRequest request;
    request.method = "GET";
    request.target = Target(0);
    request.headers = {{"Host", kHubName}, {"Authorization", Token()}};
    HttpResponse answer;
    absl::Notification answered;
    hub_->Handle(request, [&](HttpResponse response) {
      answer = std::move(response);
      answered.Notify();
    });
    answered.WaitForNotification();
    return answer;
  }

  void MakeJobs() {
    for (int i = 0; i < kTwins; ++i) {
      MUSTER_CHECK(
          engine_->UpsertTwin(absl::StrCat("{\"deviceId\":\"d-", i, "\"}"))
              .ok());
    }
    for (int i = 0; i < kJobs; ++i) {
      MUSTER_CHECK(
          engine_
              ->CreateJobFromJson(
                  JobId(i),
                  R"({"type":"scheduleUpdateTwin","queryCondition":"*",)"
                  R"("updateTwin":{"etag":"*","tags":{"building":43}}})")
              .ok());
      const JobInfo done = engine_->WaitJob(JobId(i)).value();
      MUSTER_CHECK(done.status == JobStatus::kCompleted);
    }
  }

  // Answerer: an HttpAdmit or an HttpHandler.
  template <typename Answerer>
  std::unique_ptr<HttpServer> Listen(Answerer answerer) {
    return HttpServer::Start(
               {.listen = "127.0.0.1:0",
                .tls = HttpTls{.certificate_path = certificate(),
                               .key_path = key()},
                .connections_max = flags_.connections + flags_.idle + 100},
               std::move(answerer))
        .value();
  }

  std::vector<std::string> Arguments(absl::string_view client,
                                     int connections) const {
    const HttpServer& server = client == "constant" ? *constant_ : *jobs_;
    return {absl::StrCat("--client=", client),
            absl::StrCat("--port=", server.port()),
            absl::StrCat("--ca=", certificate()),
            absl::StrCat("--connections=", connections),
            absl::StrCat("--rate=", flags_.rate),
            absl::StrCat("--seconds=", flags_.seconds)};
  }

  const Flags& flags_;
  const TempFolder folder_;
  const std::unique_ptr<Executor> executor_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<HubService> hub_;
  std::unique_ptr<HttpServer> jobs_, constant_;
};

// ---------------------------------------------------------------------- cases

using Rounds = std::vector<Server::Figures>;

double Median(const Rounds& rounds, double Server::Figures::* figure) {
  std::vector<double> values;
  for (const Server::Figures& round : rounds) values.push_back(round.*figure);
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void PrintRate(const char* name, const Rounds& rounds) {
  std::printf("%-9s %8.0f requests/s, %5.1f us of the server's CPU each", name,
              Median(rounds, &Server::Figures::rate),
              Median(rounds, &Server::Figures::cpu_us));
}

void PrintRounds(const Rounds& rounds) {
  std::printf("   [");
  for (const Server::Figures& round : rounds) std::printf(" %.0f", round.rate);
  std::printf(" ]\n");
}

void PrintLatencies(const char* name, const Rounds& rounds) {
  PrintRate(name, rounds);
  std::printf("; p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.1f ms   [p99",
              Median(rounds, &Server::Figures::p50_ms),
              Median(rounds, &Server::Figures::p99_ms),
              Median(rounds, &Server::Figures::p999_ms),
              Median(rounds, &Server::Figures::max_ms));
  for (const Server::Figures& round : rounds) {
    std::printf(" %.2f", round.p99_ms);
  }
  std::printf(" ]\n");
}

int Run(const Flags& flags) {
  std::printf("TLS 1.3, one server thread, %d connections, %d s a round, %s\n",
              flags.connections, flags.seconds, MachineLoad().c_str());
  Server server(flags);
  Rounds constant, job, rate, beside, connect, resume;
  double idle_bytes = 0;
  for (int round = 0; round < flags.rounds; ++round) {
    if (flags.Has("constant")) {
      constant.push_back(server.Run("constant"));
    }
    if (flags.Has("job")) job.push_back(server.Run("closed"));
    if (flags.Has("rate")) rate.push_back(server.Run("open"));
    if (flags.Has("idle")) {
      double bytes = 0;
      ChildProcess held = server.Hold(&bytes);
      // What is freed in later rounds is used again, and not seen.
      if (round == 0) idle_bytes = bytes;
      beside.push_back(server.Run("open"));
      held.End();
    }
    if (flags.Has("connect")) {
      connect.push_back(server.Run("connect"));
      resume.push_back(server.Run("resume"));
    }
  }
  if (!constant.empty()) {
    PrintRate("constant", constant);
    PrintRounds(constant);
  }
  if (!job.empty()) {
    PrintRate("job", job);
    if (!constant.empty()) {
      std::printf("   %.2f of constant",
                  Median(job, &Server::Figures::rate) /
                      Median(constant, &Server::Figures::rate));
    }
    PrintRounds(job);
  }
  if (!rate.empty()) PrintLatencies("rate", rate);
  if (!beside.empty()) {
    PrintLatencies("idle", beside);
    std::printf("          beside %d idle connections of %.1f KB each\n",
                flags.idle, idle_bytes / 1e3);
  }
  if (!connect.empty()) {
    PrintRate("connect", connect);
    PrintRounds(connect);
    PrintRate("resume", resume);
    PrintRounds(resume);
  }
  return 0;
}

bool ParseFlag(absl::string_view argument, Flags* flags) {
  const auto number = [&](absl::string_view name, int* value) {
    return absl::ConsumePrefix(&argument, name) &&
           absl::SimpleAtoi(argument, value) && *value > 0;
  };
  const auto text = [&](absl::string_view name, std::string* value) {
    if (!absl::ConsumePrefix(&argument, name)) return false;
    *value = std::string(argument);
    return true;
  };
  return number("--seconds=", &flags->seconds) ||
         number("--rounds=", &flags->rounds) ||
         number("--rate=", &flags->rate) ||
         number("--connections=", &flags->connections) ||
         number("--idle=", &flags->idle) || number("--port=", &flags->port) ||
         text("--cases=", &flags->cases) || text("--client=", &flags->client) ||
         text("--ca=", &flags->ca);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  muster::Flags flags;
  for (int i = 1; i < argc; ++i) {
    if (muster::ParseFlag(argv[i], &flags)) continue;
    const bool is_help = argv[i] == absl::string_view("--help");
    if (!is_help) {
      std::fprintf(stderr, "http_bench: cannot use %s\n", argv[i]);
    }
    std::fprintf(is_help ? stdout : stderr,
                 "  --seconds=5 --rounds=3 --rate=10000 --connections=32 "
                 "--idle=1000\n  --cases=constant,job,rate,idle,connect\n");
    return is_help ? 0 : 2;
  }
  if (!flags.client.empty()) return muster::RunClient(flags);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return muster::Run(flags);
}
