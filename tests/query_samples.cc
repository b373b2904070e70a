#include "tests/query_samples.h"

#include "absl/status/statusor.h"
#include "engine/model/check.h"
#include "engine/model/json.h"

namespace muster {

JsonDocument Row(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  MUSTER_CHECK(json.ok());
  return JsonDocument(*std::move(json));
}

JsonDocument ExampleTwin() {
  return Row(R"json(
{ "deviceId": "thermo-042", "etag": "AAAAAAAAAAk=", "status": "enabled", "statusReason": "provisioned",
  "statusUpdateTime": "2024-01-10T08:00:00Z", "connectionState": "Connected", "lastActivityTime": "2024-03-01T12:30:45.123Z",
  "cloudToDeviceMessageCount": 0, "authenticationType": "sas", "version": 12,
  "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null }, "capabilities": { "iotEdge": false },
  "tags": {
    "location": {"region": "US", "building": "43", "floor": 3, "geo": {"lat": 47.5, "lon": -122.25}},
    "group": { "name": "pilot" }, "my-tag": "dash", "in": "reserved", "4g": true, "a]b": 1, "Region": "shadow",
    "priority": 7, "zip": "00043", "note": "it's \"ok\"", "path": "C:\\fw", "empty": "",
    "label": "Ünïté-Ω", "部屋": "会議室", "retired": false, "colors": [ "red", "blue" ], "limits": [ 10, 20.5, "x" ] },
  "properties": {
    "desired": {
      "telemetryConfig": { "sendFrequency": "5m", "intervalSecs": 300 }, "firmware": { "version": "1.4.0", "force": true },
      "$metadata": { "$lastUpdated": "2024-02-20T10:00:00.5Z" }, "$version": 4 },
    "reported": {
      "telemetryConfig": { "sendFrequency": "5m", "intervalSecs": 300.0, "status": "Success" }, "firmware": { "version": "1.3.9" },
      "batteryLevel": 55, "uptimeHours": 0, "connectivity": { "type": "cellular" },
      "$metadata": { "$lastUpdated": "2024-03-01T12:30:45.123Z" }, "$version": 17 } } }
)json");
}

JsonDocument ExampleRecord() {
  return Row(R"json(
{ "deviceId": "thermo-042", "jobId": "lock-2024-03", "jobType": "scheduleDeviceMethod", "status": "completed",
  "startTimeUtc": "2024-03-01T12:00:00.0123456Z", "endTimeUtc": "2024-03-01T12:00:04.5Z",
  "createdDateTimeUtc": "2024-03-01T11:59:58Z", "lastUpdatedDateTimeUtc": "2024-03-01T12:00:04.5Z",
  "outcome": { "deviceMethodResponse": { "status": 200, "payload": {"locked": true} } } }
)json");
}

std::vector<JsonDocument> SixTwins() {
  return {
      ExampleTwin(),
      Row(R"json({ "deviceId": "thermo-043", "status": "disabled", "tags": { "location": {"region": "US"}, "mix": null },
        "properties": { "desired": {"$version": 1}, "reported": {
          "telemetryConfig": {"status": "Pending"}, "batteryLevel": 20, "$version": 2 } } })json"),
      Row(R"json({ "deviceId": "thermo-044", "status": "disabled", "tags": { "location": {"region": "EU"}, "mix": "b" },
        "properties": { "desired": {"$version": 1}, "reported": {
          "telemetryConfig": {"status": "Success"}, "batteryLevel": 90, "$version": 3 } } })json"),
      Row(R"json({ "deviceId": "thermo-045", "status": "disabled", "tags": { "mix": true },
        "properties": { "desired": {"$version": 1}, "reported": {
          "telemetryConfig": {"status": "Error"}, "batteryLevel": "full", "$version": 1 } } })json"),
      Row(R"json({ "deviceId": "thermo-046", "status": "disabled", "tags": { "location": {"region": "EU"}, "mix": 2 },
        "properties": { "desired": {"$version": 1}, "reported": {
          "telemetryConfig": {"status": "Pending"}, "$version": 5 } } })json"),
      Row(R"json({ "deviceId": "thermo-047", "status": "disabled", "tags": { "location": {"region": "US"}, "mix": ["a"] },
        "properties": { "desired": {"$version": 1}, "reported": {
          "telemetryConfig": {"status": "Success"}, "batteryLevel": 12.5, "$version": 9 } } })json"),
  };
}

}  // namespace muster
