// What a twin may be: the states that the answers so far leave possible.
//
// A write that was acknowledged leaves one state.  One whose answer was "nobody
// knows" leaves two, until somebody reads the twin; and what a reader saw may
// still be gone after a crash, as long as no later write of the twin was
// acknowledged.
#ifndef TESTS_SIMULATOR_TWIN_STATES_H_
#define TESTS_SIMULATOR_TWIN_STATES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"

namespace muster::simulator {

// What callers write; what jobs write stands beside it, under keys that begin
// with "job", and is not in here.
struct TwinState {
  using Section = std::map<std::string, int64_t>;

  bool present = false;
  bool enabled = true;
  Section tags;
  Section desired;
  Section reported;
  // Without the updates of jobs; kAny: not known.
  static constexpr int64_t kAny = -1;
  int64_t version = kAny;
  int64_t desired_version = kAny;
  int64_t reported_version = kAny;
  // What its keys were made of (KeyOf()); 0: the registry has not written it.
  int64_t keys = 0;
  uint64_t device_etag = 0;  // The counter; 0: there is none.

  // Of the engine's document, undefined if there is none, and the device's
  // primary key.
  static TwinState Of(JsonView document, absl::string_view primary_key);

  bool Agrees(const TwinState& seen) const;
  std::string Text() const;
  friend bool operator==(const TwinState&, const TwinState&) = default;
};

// A write, as a function of states.
struct TwinWriteModel {
  enum Kind {
    kUpsert,
    kPatch,
    kReplace,
    kReport,
    kErase,
    kEnable,
    kDisable,
    kCreateDevice,
    kUpdateDevice
  };
  Kind kind = kUpsert;
  // A value that stands for null: the member goes.
  static constexpr int64_t kNull = INT64_MIN;
  bool has_tags = false;
  bool has_desired = false;
  TwinState::Section tags;
  TwinState::Section desired;
  TwinState::Section reported;
  bool enabled = true;  // kUpsert, kCreateDevice, kUpdateDevice.
  int64_t keys = 1;     // The latter two.

  TwinState Apply(const TwinState& state) const;
  // What the engine is given; of the registry, for the trace.
  std::string Document(const std::string& device) const;
  DeviceIdentity Identity(const std::string& device) const;
};

// Of one device.
class TwinStates {
 public:
  TwinStates() : shown_({TwinState()}), durable_(shown_) {}

  void Acknowledged(const TwinWriteModel& write);
  void Unknown(const TwinWriteModel& write);
  // The engine was restarted.
  void Restarted() {
    shown_ = durable_;
    settled_ = true;
  }
  // Empty, or what is wrong with reading that.
  std::string Read(const TwinState& seen);

  // Whether a condition holds in all, or in any, of the states.
  bool All(const std::function<bool(const TwinState&)>& condition) const;
  bool Any(const std::function<bool(const TwinState&)>& condition) const;
  // The only one that is possible; nullptr if there are more.
  const TwinState* Only() const {
    return shown_.size() == 1 ? &shown_[0] : nullptr;
  }

 private:
  static void Add(const TwinState& state, std::vector<TwinState>* to);

  std::vector<TwinState> shown_;
  std::vector<TwinState> durable_;
  bool settled_ = true;  // What is shown is what is durable.
};

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_TWIN_STATES_H_
