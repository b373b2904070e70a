// Ten lines: an engine, three devices, a job, and what came of it.

#include <cstdio>

#include "engine/engine.h"

int main() {
  auto engine = muster::Engine::Create({});
  if (!engine.ok()) return 1;
  for (const char* twin :
       {R"({"deviceId": "thermo-1", "tags": {"floor": 3}})",
        R"({"deviceId": "thermo-2", "tags": {"floor": 3}})",
        R"({"deviceId": "thermo-3", "tags": {"floor": 4}})"}) {
    if (!(*engine)->UpsertTwin(twin).ok()) return 1;
  }
  auto job = (*engine)->CreateJobFromJson("slower-telemetry", R"({
      "type": "scheduleUpdateTwin",
      "updateTwin": {"properties": {"desired": {"intervalSec": 300}}},
      "queryCondition": "tags.floor = 3"})");
  if (job.ok()) job = (*engine)->WaitJob("slower-telemetry");
  std::printf("%s\n", job.ok() ? "ok" : job.status().ToString().c_str());
  if (!job.ok()) return 1;
  std::printf("%d devices\n",
              static_cast<int>(job->statistics->succeeded_count));
}
