// R11 of contract 4.2, lists, bulk, statistics: wire-facts 6.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "transport/http/hub/route.h"

namespace muster::hub {
namespace {

std::string NewKey(const RandomSource& random) {
  std::array<uint8_t, 32> bytes;
  random(absl::MakeSpan(bytes));
  return absl::Base64Escape(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// Each key that is not given and that the device may need: always if it is
// made; if it is changed, where it has none yet, because it came as a twin or
// had certificates so far.
SymmetricKeys MissingKeys(const RandomSource& random,
                          const DeviceIdentity& device) {
  SymmetricKeys keys;
  if (device.authentication_type.value_or(AuthenticationType::kSas) !=
      AuthenticationType::kSas) {
    return keys;
  }
  if (device.primary_key.empty()) keys.primary = NewKey(random);
  if (device.secondary_key.empty()) keys.secondary = NewKey(random);
  return keys;
}

// A device that is made.
void MakeKeys(const RandomSource& random, DeviceIdentity& device) {
  SymmetricKeys keys = MissingKeys(random, device);
  if (!keys.primary.empty()) device.primary_key = std::move(keys.primary);
  if (!keys.secondary.empty()) device.secondary_key = std::move(keys.secondary);
}

void Answer(const absl::StatusOr<DeviceIdentity>& device, Done done) {
  if (!device.ok()) return std::move(done)(device.status());
  std::string body;
  AppendDeviceJson(*device, &body);
  std::move(done)(JsonResponse(std::move(body)));
}

// Without If-Match the device is made, with it changed.
void PutDevice(Context& context, Request request, Done done) {
  absl::StatusOr<DeviceIdentity> device =
      ParseDeviceIdentity(request.ids[0], request.http.body);
  if (!device.ok()) return std::move(done)(device.status());
  const absl::string_view if_match = IfMatch(request);
  if (if_match.empty()) {
    MakeKeys(context.random, *device);
    return Answer(context.engine.CreateDevice(*device), std::move(done));
  }
  Answer(context.engine.UpdateDevice(*device, if_match,
                                     MissingKeys(context.random, *device)),
         std::move(done));
}

void GetDevice(Context& context, Request request, Done done) {
  Answer(context.engine.GetDevice(request.ids[0]), std::move(done));
}

void DeleteDevice(Context& context, Request request, Done done) {
  const absl::Status deleted =
      context.engine.DeleteDevice(request.ids[0], IfMatch(request));
  if (!deleted.ok()) return std::move(done)(deleted);
  HttpResponse response;
  response.status = 204;
  std::move(done)(std::move(response));
}

// Decimal digits, maybe with a sign: however many.
bool IsWholeNumber(absl::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
}

// The service's description: any value outside of 1 to 1000 is considered to be
// 1000.
absl::StatusOr<int> ReadTop(absl::string_view top) {
  if (top.empty()) return kDevicesListedMax;
  if (!IsWholeNumber(top)) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("top is '", top, "'; it is a number from 1 ",
                                  "to ", kDevicesListedMax));
  }
  int count;
  if (!absl::SimpleAtoi(top, &count) || count < 1) return kDevicesListedMax;
  return std::min(count, kDevicesListedMax);
}

void ListDevices(Context& context, Request request, Done done) {
  const absl::StatusOr<int> count = ReadTop(request.Parameter("top"));
  if (!count.ok()) return std::move(done)(count.status());
  const auto devices = context.engine.ListDevices(*count);
  if (!devices.ok()) return std::move(done)(devices.status());
  std::string body = "[";
  for (const DeviceIdentity& device : *devices) {
    if (body.size() > 1) body.push_back(',');
    AppendDeviceJson(device, &body);
  }
  body.push_back(']');
  std::move(done)(JsonResponse(std::move(body)));
}

// There is no way to make a module.
void ListModules(Context& context, Request request, Done done) {
  const absl::Status device = context.engine.GetDevice(request.ids[0]).status();
  if (!device.ok()) return std::move(done)(device);
  std::move(done)(JsonResponse("[]"));
}

void CountDevices(Context& context, Request request, Done done) {
  const RegistryStatistics counts = context.engine.CountDevices();
  std::string body;
  JsonWriter(&body)
      .BeginObject()
      .Key("totalDeviceCount")
      .Int(counts.devices)
      .Key("enabledDeviceCount")
      .Int(counts.enabled)
      .Key("disabledDeviceCount")
      .Int(counts.disabled)
      .EndObject();
  std::move(done)(JsonResponse(std::move(body)));
}

void CountConnected(Context& context, Request request, Done done) {
  const absl::StatusOr<TargetCount> counts = context.engine.CountTargets("*");
  if (!counts.ok()) return std::move(done)(counts.status());
  std::string body;
  JsonWriter(&body)
      .BeginObject()
      .Key("connectedDeviceCount")
      .Int(counts->connected)
      .EndObject();
  std::move(done)(JsonResponse(std::move(body)));
}

// ------------------------------------------------------------------- bulk
//
// An array of the hub's ExportImportDevice: a device with `id` in the place of
// deviceId, what to do with it, and, where the device may be made or its twin
// be changed, the twin's `tags` and `properties.desired`.  Names of modes and
// what they do to whom: the hub's article on importing identities; there, one
// without importMode is createOrUpdate.
//
// A row with both is two changes, the identity's and then the twin's.  If the
// second fails, the first stays, and the row's error says so.

enum class ImportMode : uint8_t {
  kCreate,
  kUpdate,
  kCreateOrUpdate,
  kDelete,
  kUpdateTwin,
};

struct ImportModeName {
  absl::string_view name;
  ImportMode mode;
  bool if_match;
};

constexpr ImportModeName kImportModes[] = {
    {"create", ImportMode::kCreate, false},
    {"update", ImportMode::kUpdate, false},
    {"updateIfMatchETag", ImportMode::kUpdate, true},
    {"createOrUpdate", ImportMode::kCreateOrUpdate, false},
    {"createOrUpdateIfMatchETag", ImportMode::kCreateOrUpdate, true},
    {"delete", ImportMode::kDelete, false},
    {"deleteIfMatchETag", ImportMode::kDelete, true},
    {"updateTwin", ImportMode::kUpdateTwin, false},
    {"updateTwinIfMatchETag", ImportMode::kUpdateTwin, true},
};

struct BulkRow {
  std::string device_id;
  ImportMode mode = ImportMode::kCreateOrUpdate;
  DeviceIdentity device;   // Not with kDelete and kUpdateTwin.
  std::string if_match;    // "": whatever it has.
  std::string twin_patch;  // "": none.
  std::string twin_if_match;
  absl::Status status;  // What came of it.
  // What has become of the identity: "made", "changed" or "deleted"; "" while
  // nothing has.
  absl::string_view done;
};

// A member that may be left out or null; its text otherwise.
absl::StatusOr<std::string> OptionalString(JsonView row, absl::string_view at,
                                           absl::string_view name) {
  const JsonView value = row.Find(name);
  if (value.is_undefined() || value.is_null()) return std::string();
  if (!value.is_string()) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat(at, ".", name, " is a ", JsonKindName(value.kind()),
                     "; it has to be a string"));
  }
  return std::string(value.string_value());
}

// The partial twin in a row; "" if there is none.
absl::StatusOr<std::string> TwinPatchOf(JsonView row) {
  absl::StatusOr<TwinPatchView> patch =
      ReadTwinPatch(row, PatchOrigin::kService);
  if (!patch.ok()) return patch.status();
  const JsonView tags = patch->tags.value;
  const JsonView desired = patch->desired.value;
  if (!tags.is_object() && !desired.is_object()) return std::string();
  std::string text;
  JsonWriter writer(&text);
  writer.BeginObject();
  if (tags.is_object()) writer.Key("tags").Value(tags);
  if (desired.is_object()) {
    writer.Key("properties").BeginObject().Key("desired").BeginObject();
    for (const JsonView::Member& member : desired.members()) {
      // What the hub writes there is of the twin that the row was read from:
      // `$version` would guard this one.  For that a row has twinETag.
      if (absl::StartsWith(member.key, "$")) continue;
      writer.Key(member.key).Value(member.value);
    }
    writer.EndObject().EndObject();
  }
  writer.EndObject();
  return text;
}

absl::StatusOr<ImportModeName> ParseImportMode(JsonView row,
                                               absl::string_view at) {
  absl::StatusOr<std::string> name = OptionalString(row, at, "importMode");
  if (!name.ok()) return name.status();
  if (name->empty()) *name = "createOrUpdate";
  std::string known;
  for (const ImportModeName& mode : kImportModes) {
    if (absl::EqualsIgnoreCase(mode.name, *name)) return mode;
    absl::StrAppend(&known, known.empty() ? "" : ", ", mode.name);
  }
  return MakeError(
      ErrorCode::kArgumentInvalid,
      absl::StrCat(at, ".importMode is '", *name, "'; it is one of ", known));
}

// What has to match for the row to be carried out.
absl::Status ReadEtags(JsonView json, absl::string_view at,
                       const ImportModeName& mode, BulkRow* row) {
  // The one is the name in the hub's description, the other is written by
  // clients that send what they have read of a device.
  absl::StatusOr<std::string> etag = OptionalString(json, at, "eTag");
  if (etag.ok() && etag->empty()) etag = OptionalString(json, at, "etag");
  if (!etag.ok()) return etag.status();
  absl::StatusOr<std::string> twin_etag = OptionalString(json, at, "twinETag");
  if (!twin_etag.ok()) return twin_etag.status();
  const bool of_twin = mode.mode == ImportMode::kUpdateTwin;
  if (of_twin ? mode.if_match : mode.mode == ImportMode::kCreateOrUpdate) {
    row->twin_if_match = *twin_etag;
  }
  if (!mode.if_match) return absl::OkStatus();
  if (!of_twin) row->if_match = *etag;
  if (!(of_twin ? *twin_etag : *etag).empty()) return absl::OkStatus();
  if (mode.mode == ImportMode::kCreateOrUpdate) {
    row->mode = ImportMode::kCreate;  // There is no device that it matches.
  } else {
    row->status = MakeError(
        ErrorCode::kArgumentNull,
        absl::StrCat(of_twin ? "twinETag" : "eTag", ", for ", mode.name));
  }
  return absl::OkStatus();
}

// What is wrong with the form of a row concerns the whole request; what is
// wrong with a device concerns its row, and is the row's status.
absl::StatusOr<BulkRow> ParseBulkRow(JsonView json, absl::string_view at) {
  if (!json.is_object()) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat(at, " is a ", JsonKindName(json.kind()),
                                  "; it has to be an object"));
  }
  BulkRow row;
  absl::StatusOr<std::string> id = OptionalString(json, at, "id");
  if (!id.ok()) return id.status();
  if (id->empty()) {
    return MakeError(ErrorCode::kArgumentNull, absl::StrCat(at, ".id"));
  }
  row.device_id = *std::move(id);
  const absl::StatusOr<std::string> module =
      OptionalString(json, at, "moduleId");
  if (!module.ok()) return module.status();
  if (!module->empty()) {
    // Of a module of the device, which is left alone.
    row.status =
        MakeError(ErrorCode::kFeatureNotSupported,
                  absl::StrCat("there are no modules; moduleId is ", *module));
    return row;
  }
  const absl::StatusOr<ImportModeName> mode = ParseImportMode(json, at);
  if (!mode.ok()) return mode.status();
  row.mode = mode->mode;
  if (absl::Status s = ReadEtags(json, at, *mode, &row); !s.ok()) return s;
  if (!row.status.ok() || row.mode == ImportMode::kDelete) return row;

  if (row.mode != ImportMode::kUpdate) {
    absl::StatusOr<std::string> patch = TwinPatchOf(json);
    if (!patch.ok()) {
      row.status = patch.status();
      return row;
    }
    row.twin_patch = *std::move(patch);
  }
  if (row.mode == ImportMode::kUpdateTwin) return row;
  absl::StatusOr<DeviceIdentity> device =
      ParseDeviceIdentity(row.device_id, JsonText(json));
  if (device.ok()) {
    row.device = *std::move(device);
  } else {
    row.status = device.status();
  }
  return row;
}

absl::StatusOr<std::vector<BulkRow>> ParseBulk(absl::string_view body) {
  absl::StatusOr<Json> json = ParseJson(body);
  if (!json.ok()) return json.status();
  if (!json->view().is_array()) {
    return MakeError(
        ErrorCode::kIotHubFormatError,
        absl::StrCat("the body is a ", JsonKindName(json->view().kind()),
                     "; it has to be an array of devices"));
  }
  std::vector<BulkRow> rows;
  absl::flat_hash_set<std::string> ids;
  for (const JsonView element : json->view().elements()) {
    if (rows.size() == kDevicesChangedMax) {
      return MakeError(ErrorCode::kArgumentInvalid,
                       absl::StrCat("there are more than ", kDevicesChangedMax,
                                    " devices in the request"));
    }
    absl::StatusOr<BulkRow> row =
        ParseBulkRow(element, absl::StrCat("[", rows.size(), "]"));
    if (!row.ok()) return row.status();
    if (row->status.ok() && !ids.insert(row->device_id).second) {
      row->status = MakeError(
          ErrorCode::kDeviceDefinedMultipleTimes,
          absl::StrCat("device ", row->device_id, " is in the request twice"));
    }
    rows.push_back(*std::move(row));
  }
  return rows;
}

absl::string_view NameOf(DeviceOperation::Kind kind) {
  switch (kind) {
    case DeviceOperation::Kind::kCreate:
      return "made";
    case DeviceOperation::Kind::kUpdate:
      return "changed";
    case DeviceOperation::Kind::kDelete:
      return "deleted";
  }
  MUSTER_CHECK(false);
}

// Makes those changes of identities, with one wait for the journal.  `rows[i]`
// is the row of the i-th.
void Change(Context& context, absl::Span<BulkRow* const> rows,
            absl::Span<const DeviceOperation> operations) {
  if (operations.empty()) return;
  const std::vector<absl::Status> answers =
      context.engine.ChangeDevices(operations);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i]->status = answers[i];
    if (answers[i].ok()) rows[i]->done = NameOf(operations[i].kind);
  }
}

// createOrUpdate is tried as an update first, and those that it finds nothing
// for are made afterwards: since no device is in the request twice, the order
// of the rows does not show.
void ChangeDevices(Context& context, std::vector<BulkRow>& rows) {
  using Kind = DeviceOperation::Kind;
  std::vector<BulkRow*> changed;
  std::vector<DeviceOperation> operations;
  for (BulkRow& row : rows) {
    if (!row.status.ok() || row.mode == ImportMode::kUpdateTwin) continue;
    DeviceOperation operation;
    operation.device = row.device;
    operation.if_match = row.if_match;
    if (row.mode == ImportMode::kDelete) {
      operation.kind = Kind::kDelete;
      operation.device.device_id = row.device_id;
    } else if (row.mode == ImportMode::kCreate) {
      operation.kind = Kind::kCreate;
      MakeKeys(context.random, operation.device);
    } else {
      operation.kind = Kind::kUpdate;
      operation.spare_keys = MissingKeys(context.random, operation.device);
    }
    changed.push_back(&row);
    operations.push_back(std::move(operation));
  }
  Change(context, changed, operations);

  changed.clear();
  operations.clear();
  for (BulkRow& row : rows) {
    if (row.mode != ImportMode::kCreateOrUpdate ||
        ErrorCodeOf(row.status) != ErrorCode::kDeviceNotFound) {
      continue;
    }
    DeviceOperation operation;
    operation.kind = Kind::kCreate;
    operation.device = row.device;
    MakeKeys(context.random, operation.device);
    row.twin_if_match.clear();  // Of the twin that is not there.
    changed.push_back(&row);
    operations.push_back(std::move(operation));
  }
  Change(context, changed, operations);
}

// One by one, each waiting for the journal: twins are rare here.
void ChangeTwins(Context& context, std::vector<BulkRow>& rows) {
  for (BulkRow& row : rows) {
    if (!row.status.ok() || row.twin_patch.empty()) continue;
    row.status =
        context.engine
            .PatchTwin(row.device_id, row.twin_patch, row.twin_if_match)
            .status();
    if (row.status.ok() || row.done.empty()) continue;
    row.status =
        MakeError(ErrorCodeOf(row.status),
                  absl::StrCat("the device was ", row.done,
                               ", its twin was not: ", row.status.message()));
  }
}

void Bulk(Context& context, Request request, Done done) {
  absl::StatusOr<std::vector<BulkRow>> rows = ParseBulk(request.http.body);
  if (!rows.ok()) return std::move(done)(rows.status());
  ChangeDevices(context, *rows);
  ChangeTwins(context, *rows);

  size_t failed = 0;
  size_t unavailable = 0;
  std::string errors;
  JsonWriter writer(&errors);
  writer.BeginArray();
  for (const BulkRow& row : *rows) {
    if (row.status.ok()) continue;
    ++failed;
    const ErrorCode code = ErrorCodeOf(row.status);
    if (code == ErrorCode::kServiceUnavailable && row.done.empty()) {
      ++unavailable;
    }
    writer.BeginObject()
        .Key("deviceId")
        .String(row.device_id)
        .Key("errorCode")
        .Int(static_cast<int>(code))
        .Key("errorStatus")
        .String(row.status.message())
        .EndObject();
  }
  writer.EndArray();
  // No row was acknowledged, not even in part, and none is to blame: the same
  // as for one device.
  if (unavailable > 0 && unavailable == rows->size()) {
    return std::move(done)(rows->front().status);
  }
  HttpResponse response = JsonResponse(
      absl::StrCat("{\"isSuccessful\":", failed == 0 ? "true" : "false",
                   ",\"errors\":", errors, ",\"warnings\":[]}"));
  if (failed > 0) {
    // By this name clients know that the body is no error envelope.
    const ErrorInfo& error =
        ErrorInfoOf(ErrorCode::kBulkRegistryOperationFailure);
    response.status = error.http_status;
    response.headers.emplace_back("iothub-errorcode", std::string(error.name));
  }
  std::move(done)(std::move(response));
}

constexpr Role kReaders[] = {Role::kRegistryRead};
constexpr Role kWriters[] = {Role::kRegistryWrite};
constexpr Throttled kRate = Throttled::kIdentityOperations;

constexpr Route kRoutes[] = {
    {.method = "PUT",
     .pattern = "/devices/{}",
     .roles = kWriters,
     .throttled = kRate,
     .has_body = true,
     .handle = PutDevice},
    {.method = "GET",
     .pattern = "/devices/{}",
     .roles = kReaders,
     .throttled = kRate,
     .blocks = false,
     .handle = GetDevice},
    {.method = "DELETE",
     .pattern = "/devices/{}",
     .roles = kWriters,
     .throttled = kRate,
     .handle = DeleteDevice},
    {.method = "GET",
     .pattern = "/devices/{}/modules",
     .roles = kReaders,
     .throttled = kRate,
     .blocks = false,
     .handle = ListModules},
    {.method = "GET",
     .pattern = "/devices",
     .roles = kReaders,
     .throttled = kRate,
     .handle = ListDevices},
    {.method = "POST",
     .pattern = "/devices",
     .roles = kWriters,
     .throttled = kRate,
     .has_body = true,
     .body_size_max = kHubBodySizeMax,
     .handle = Bulk},
    {.method = "GET",
     .pattern = "/statistics/devices",
     .roles = kReaders,
     .throttled = kRate,
     .handle = CountDevices},
    {.method = "GET",
     .pattern = "/statistics/service",
     .roles = kReaders,
     .throttled = kRate,
     .handle = CountConnected},
};

}  // namespace

absl::Span<const Route> DeviceRoutes() { return kRoutes; }

}  // namespace muster::hub
