// GatewaySide with streams in memory: nothing of gRPC is in this test, so that
// a ThreadSanitizer sees all of what the threads do to each other.
#include "transport/grpc/gateway/gateway_side.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.pb.h"
#include "tests/gateway/engine_end.h"

namespace muster {
namespace {

// Frames in two queues.  A write is done when a frame has been queued; three
// may be, as a network takes some.
class MemoryStream : public EngineStream {
 public:
  MemoryStream(std::shared_ptr<GatewaySide> side, Executor* executor)
      : side_(std::move(side)), executor_(*executor) {}

  // ------------------------------------------------------------ EngineStream
  void Read(v1::AttachResponse* frame) override {
    absl::MutexLock lock(&mutex_);
    reading_ = frame;
    Deliver();
  }
  void Write(const v1::AttachRequest* frame) override {
    absl::MutexLock lock(&mutex_);
    to_engine_.push_back(*frame);
    writing_ = true;
    Deliver();
  }
  void Close() override {
    absl::MutexLock lock(&mutex_);
    closed_ = writing_ = true;
    Deliver();
  }
  void Cancel() override { End(absl::CancelledError()); }
  void Release(const absl::Status& why) override {
    absl::MutexLock lock(&mutex_);
    EndLocked(why);
    executor_.Run([this] {
      absl::Status status;
      {
        absl::MutexLock lock(&mutex_);
        status = status_;
      }
      const std::shared_ptr<GatewaySide> side = std::move(side_);
      side->OnDone(status);
    });
  }

  // ---------------------------------------------------------- the engine's end
  bool EngineRead(v1::AttachRequest* frame) {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return !to_engine_.empty() || closed_ || ended_;
    };
    mutex_.Await(absl::Condition(&ready));
    if (to_engine_.empty()) return false;
    *frame = std::move(to_engine_.front());
    to_engine_.pop_front();
    Deliver();
    return true;
  }
  bool EngineWrite(const v1::AttachResponse& frame) {
    absl::MutexLock lock(&mutex_);
    if (ended_) return false;
    to_gateway_.push_back(frame);
    Deliver();
    return true;
  }
  void End(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    EndLocked(status);
  }

 private:
  void EndLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    ended_ = true;
    status_ = status;
    Deliver();
  }

  // Tells of what is done.
  void Deliver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (reading_ != nullptr && (ended_ || !to_gateway_.empty())) {
      const bool ok = !to_gateway_.empty();
      if (ok) {
        *reading_ = std::move(to_gateway_.front());
        to_gateway_.pop_front();
      }
      reading_ = nullptr;
      executor_.Run([side = side_, ok] { side->OnRead(ok); });
    }
    if (writing_ && (ended_ || to_engine_.size() <= 3)) {
      writing_ = false;
      executor_.Run([side = side_, ok = !ended_] { side->OnWritten(ok); });
    }
  }

  std::shared_ptr<GatewaySide> side_;
  Executor& executor_;
  absl::Mutex mutex_;
  std::deque<v1::AttachRequest> to_engine_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::AttachResponse> to_gateway_ ABSL_GUARDED_BY(mutex_);
  v1::AttachResponse* reading_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class GatewaySideTest : public testing::Test {
 protected:
  static constexpr size_t kAnswerBytesMax = 1 << 20;

  // A stream that the gateway has dialled.
  class Dialled : public EngineEnd {
   public:
    explicit Dialled(MemoryStream* stream)
        : EngineEnd(
              [stream](v1::AttachRequest* f) { return stream->EngineRead(f); },
              [stream](const v1::AttachResponse& f) {
                return stream->EngineWrite(f);
              }),
          stream_(stream) {}
    ~Dialled() { End(absl::UnavailableError("the next one")); }
    void End(const absl::Status& status) { stream_->End(status); }

   private:
    MemoryStream* const stream_;
  };

  static GatewayOptions Options() {
    GatewayOptions options = Quick();
    options.answer_bytes_max = kAnswerBytesMax;
    return options;
  }

  GatewaySideTest()
      : executor_(MakeThreadExecutor(3)),
        gateway_(std::make_shared<GatewaySide>(
            Options(), executor_.get(), &recorder_,
            [this](std::shared_ptr<GatewaySide> side) {
              auto stream =
                  std::make_unique<MemoryStream>(side, executor_.get());
              MemoryStream* const dialled = stream.get();
              {
                absl::MutexLock lock(&mutex_);
                streams_.push_back(std::move(stream));
              }
              if (side->Begin(dialled)) {
                absl::MutexLock lock(&mutex_);
                dialled_.push_back(dialled);
              }
              return absl::OkStatus();
            })) {
    gateway_->Start();
  }

  std::unique_ptr<Dialled> Accept() {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return !dialled_.empty();
    };
    mutex_.Await(absl::Condition(&ready));
    MemoryStream* const stream = dialled_.front();
    dialled_.pop_front();
    return std::make_unique<Dialled>(stream);
  }

  void Add(uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; ++i) {
      const std::string id = absl::StrCat("dev-", i);
      ASSERT_EQ(gateway_->AddDevices({{i, id}}), absl::OkStatus());
    }
  }

  Recorder recorder_;
  absl::Mutex mutex_;
  std::deque<std::unique_ptr<MemoryStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::deque<MemoryStream*> dialled_ ABSL_GUARDED_BY(mutex_);
  // Streams are there as long as something runs.
  std::unique_ptr<Executor> executor_;
  std::shared_ptr<GatewaySide> gateway_;
};

// Answers from many threads, devices that come and go, streams that break: each
// call is answered at most once, by its own device's answer, and each of the
// last stream is.
TEST_F(GatewaySideTest, ThreadsDoNotDisturbEachOther) {
  constexpr int kAnswerers = 3, kStreams = 6;
  constexpr uint32_t kDevices = 400, kRanges = 60;
  struct Job {
    GatewayRange range;
    std::vector<uint32_t> devices;
  };
  absl::Mutex mutex;
  std::deque<Job> jobs;
  bool over = false;
  recorder_.on_methods = [&](const GatewayMethods& calls) {
    absl::MutexLock lock(&mutex);
    for (int i = 0; i < kAnswerers; ++i) {
      jobs.push_back(
          {calls.range, {calls.devices.begin(), calls.devices.end()}});
    }
  };
  Add(0, kDevices);
  std::vector<std::thread> threads;
  for (int i = 0; i < kAnswerers; ++i) {
    threads.emplace_back([&, i] {
      while (true) {
        Job job;
        {
          absl::MutexLock lock(&mutex);
          const auto ready = [&] { return over || !jobs.empty(); };
          mutex.Await(absl::Condition(&ready));
          if (jobs.empty()) return;
          job = std::move(jobs.front());
          jobs.pop_front();
        }
        // All of them answer all calls; the first answer counts.
        for (uint32_t p = 0; p < job.devices.size(); ++p) {
          const std::string payload = absl::StrCat(job.devices[p]);
          const GatewayAnswer answer = {.status = i, .payload = payload};
          EXPECT_EQ(gateway_->Answer(job.range, {p}, {answer}),
                    absl::OkStatus());
        }
      }
    });
  }
  std::atomic<bool> stop{false};
  threads.emplace_back([&] {  // Devices whose ids nobody calls.
    for (uint32_t round = 0; !stop.load(); ++round) {
      Add(10'000 + round % 50, 1);
      gateway_->RemoveDevices({10'000 + round % 50});
      gateway_->Stats();
    }
  });
  for (int s = 0; s < kStreams; ++s) {
    const auto stream = Accept();
    stream->Handshake();
    std::vector<uint32_t> tokens = {0};  // By handle.
    size_t fixed = 0;
    while (fixed < kDevices) {
      for (const std::string& id :
           stream->TakeConnect(static_cast<uint32_t>(tokens.size()))) {
        tokens.push_back(static_cast<uint32_t>(std::stoul(id.substr(4))));
        if (tokens.back() < kDevices) ++fixed;
      }
    }
    size_t calls = 0;
    for (uint32_t range = 1; range <= kRanges; ++range) {
      std::vector<uint32_t> handles;
      for (uint32_t h = range; h < tokens.size(); h += range) {
        if (tokens[h] < kDevices) handles.push_back(h);
      }
      calls += handles.size();
      stream->Call(range, handles);
    }
    if (s != kStreams - 1) {
      stream->ReadUntil([&] { return stream->results.size() > calls / 3; });
    } else {
      stream->ReadUntil([&] { return stream->results.size() == calls; });
    }
    for (const auto& [where, result] : stream->results) {
      const auto [range, position] = where;
      uint32_t seen = 0;
      for (uint32_t h = range; h < tokens.size(); h += range) {
        if (tokens[h] >= kDevices) continue;
        if (seen++ == position) {
          EXPECT_EQ(result.payload, absl::StrCat(tokens[h]));
        }
      }
    }
  }
  stop.store(true);
  {
    absl::MutexLock lock(&mutex);
    over = true;
  }
  for (std::thread& thread : threads) thread.join();
  gateway_->Stop();
  recorder_.Close();
  EXPECT_EQ(gateway_->Stats().streams, kStreams);
  EXPECT_EQ(gateway_->Stats().devices, kDevices);
}

// Calls for devices that have gone are answered by the library itself, and an
// engine may send them without reading: the gateway does not read them all.
TEST_F(GatewaySideTest, DoesNotReadWhileItsOwnAnswersPileUp) {
  constexpr uint32_t kFrames = 300, kRanges = 1'000;
  constexpr size_t kBytes = 32;  // What waits for each range, at least.
  static_assert(kFrames * kRanges * kBytes > 7 * kAnswerBytesMax);
  std::atomic<int64_t> taken{0};  // By the engine.
  int64_t taken_at_last = -1;
  recorder_.on_methods = [&](const GatewayMethods& calls) {
    taken_at_last = taken.load();
    EXPECT_EQ(gateway_->AnswerAll(calls.range, {.status = 1}),
              absl::OkStatus());
  };
  Add(0, 1);
  const auto stream = Accept();
  stream->Handshake();
  stream->TakeConnect(1);
  uint32_t range = 0;
  for (uint32_t f = 0; f < kFrames; ++f) {
    v1::AttachResponse frame;
    for (uint32_t i = 0; i < kRanges; ++i) {
      EngineEnd::AddCall(&frame, ++range, {99});
    }
    ASSERT_TRUE(stream->Write(frame));
  }
  stream->Call(++range, {1});  // Behind all of them.
  while (stream->results.size() < range) {
    ASSERT_TRUE(stream->Next());
    taken.store(static_cast<int64_t>(stream->results.size()));
  }
  // What it may have had in its hands: what waits, the frame after that, and
  // what is on the way, in frames of 1 MiB.
  EXPECT_GE(taken_at_last,
            static_cast<int64_t>(range - kRanges -
                                 (kAnswerBytesMax + 5 * (1 << 20)) / kBytes));
  stream->End(absl::OkStatus());
  gateway_->Stop();
  recorder_.Close();
}

// Stop() while answers are being given and a stream is being dialled.
TEST_F(GatewaySideTest, StopMayComeAtAnyTime) {
  recorder_.on_methods = [&](const GatewayMethods& calls) {
    EXPECT_EQ(gateway_->AnswerAll(calls.range, {.status = 200}),
              absl::OkStatus());
  };
  Add(0, 50);
  const auto stream = Accept();
  stream->Handshake();
  stream->TakeConnect(1);
  std::thread caller([&] {
    for (uint32_t range = 1; range < 200; ++range) stream->Call(range, {1, 2});
  });
  std::thread reader([&] {
    stream->ReadUntil([&] { return stream->results.size() >= 100; });
    while (stream->Next()) {
    }
    stream->End(absl::OkStatus());
  });
  while (gateway_->Stats().answers < 50) std::this_thread::yield();
  gateway_->Stop();
  recorder_.Close();
  caller.join();
  reader.join();
}

}  // namespace
}  // namespace muster
