#include "server/engine_flags.h"

#include <algorithm>
#include <thread>

#include "absl/status/statusor.h"
#include "engine/model/profile.h"

namespace muster {

int DefaultThreads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1,
                    256);
}

std::vector<Flag> WithEngineFlags(EngineFlags* o, std::vector<Flag> flags) {
  for (const Flag& flag : {
           Flag{"sync", "WHEN",
                "how DIR is synced: group (default), what comes\n"
                "meanwhile together; each, every write by itself; none,\n"
                "by the system: a power loss costs about the last\n"
                "second",
                ChoiceFlag{&o->sync, {"none", "group", "each"}}},
           Flag{"profile", "NAME",
                "limits like a hub's: unlimited (default), free, s1,\n"
                "s2, s3 or basic",
                ChoiceFlag{&o->profile,
                           {"unlimited", "free", "s1", "s2", "s3", "basic"}}},
           Flag{"units", "N", "units of the profile, for its rates (1)",
                IntFlag{&o->units, 1, 200}},
           Flag{"active-limit", "WHAT",
                "a job too many for the profile: reject it (default) or\n"
                "queue it",
                ChoiceFlag{&o->active_limit, {"reject", "queue"}}},
           Flag{"threads", "N", "threads of the engine (one per processor)",
                IntFlag{&o->threads, 1, 256}},
       }) {
    flags.push_back(flag);
  }
  return flags;
}

absl::Status SetEngineOptions(const EngineFlags& flags,
                              EngineOptions* options) {
  absl::StatusOr<Profile> profile =
      FindProfile(flags.profile, static_cast<int>(flags.units));
  if (!profile.ok()) return profile.status();
  options->profile = *profile;
  options->on_active_limit = flags.active_limit == "queue"
                                 ? ActiveLimitPolicy::kQueue
                                 : ActiveLimitPolicy::kReject;
  options->threads = static_cast<int>(flags.threads);
  return absl::OkStatus();
}

JournalSync SyncOf(const EngineFlags& flags) {
  return flags.sync == "none"   ? JournalSync::kNone
         : flags.sync == "each" ? JournalSync::kEach
                                : JournalSync::kGroup;
}

}  // namespace muster
