// Reading, checking and writing jobs.
//
// A request passes the checks of contract 1.10 row by row.  Each function below
// is one row, or one member of a row; the two entry points, for JSON and for
// requests built in C++, call the same ones in the same order.  A direct method
// outside of jobs passes those of its members.
#include "engine/model/job.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/model/instant.h"

namespace muster {
namespace {

absl::Status Invalid(absl::string_view message) {
  return MakeError(ErrorCode::kArgumentInvalid, message);
}

absl::Status Missing(absl::string_view member) {
  return MakeError(ErrorCode::kArgumentNull,
                   absl::StrCat(member, " is required"));
}

// `text` in quotes, as much of it as a message can bear.
std::string Quote(absl::string_view text) {
  constexpr size_t kShown = 80;
  size_t size = text.size();
  if (size > kShown) {
    size = kShown;
    while (size > 0 && (text[size] & 0xC0) == 0x80)
      --size;  // Whole characters.
  }
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, size)),
                      size < text.size() ? "..." : "", "\"");
}

// What stands in the request, for the end of a message: kind or value.
std::string Got(JsonView value) {
  switch (value.kind()) {
    case JsonKind::kString:
      return absl::StrCat("; got ", Quote(value.string_value()));
    case JsonKind::kNumber:
    case JsonKind::kBool:
      return absl::StrCat("; got ", JsonText(value));
    default:
      return absl::StrCat("; got ", JsonKindName(value.kind()));
  }
}

// A member that may be left out: null says the same as absence (contract 0.3).
JsonView FindPresent(JsonView object, absl::string_view key) {
  const JsonView value = object.Find(key);
  return value.is_null() ? JsonView() : value;
}

// The alphabet of contract 1.7: HTTP's token without '$'.
bool IsNameChar(unsigned char c) {
  return absl::ascii_isalnum(c) ||
         (c != 0 && absl::string_view("!#%&'*+-.^_`|~").find(c) !=
                        absl::string_view::npos);
}

// The offset of the first character outside of the alphabet, or npos.
size_t FindBadNameChar(absl::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsNameChar(static_cast<unsigned char>(text[i]))) return i;
  }
  return absl::string_view::npos;
}

constexpr absl::string_view kNameAlphabet =
    "letters, digits and ! # % & ' * + - . ^ _ ` | ~";

// The whole character of a UTF-8 text at `offset`.
absl::string_view CharAt(absl::string_view text, size_t offset) {
  size_t size = 1;
  while (offset + size < text.size() && (text[offset + size] & 0xC0) == 0x80) {
    ++size;
  }
  return text.substr(offset, size);
}

absl::Status BadChar(absl::string_view what, absl::string_view text,
                     size_t offset) {
  return Invalid(absl::StrCat(what, " ", Quote(text), " has ",
                              Quote(CharAt(text, offset)),
                              "; allowed: ", kNameAlphabet));
}

struct CharRules {
  bool names = false;    // Names of members.
  bool strings = false;  // String values.
};

// Applies `rules` to `value` and everything in it.  `path` says where it is.
absl::Status CheckChars(JsonView value, CharRules rules, std::string* path) {
  const size_t path_size = path->size();
  if (value.is_string() && rules.strings) {
    const size_t bad = FindBadNameChar(value.string_value());
    if (bad != absl::string_view::npos) {
      return BadChar(absl::StrCat("the value of ", *path), value.string_value(),
                     bad);
    }
  }
  for (const JsonView::Member& member : value.members()) {
    const size_t bad = FindBadNameChar(member.key);
    if (rules.names && bad != absl::string_view::npos) {
      return BadChar(absl::StrCat("in ", *path, " the member"), member.key,
                     bad);
    }
    absl::StrAppend(path, ".", member.key);
    if (absl::Status s = CheckChars(member.value, rules, path); !s.ok()) {
      return s;
    }
    path->resize(path_size);
  }
  int64_t index = 0;
  for (JsonView element : value.elements()) {
    absl::StrAppend(path, "[", index++, "]");
    if (absl::Status s = CheckChars(element, rules, path); !s.ok()) return s;
    path->resize(path_size);
  }
  return absl::OkStatus();
}

// ------------------------------------------------------------------- row 4

absl::StatusOr<Json> ParseBody(absl::string_view body,
                               const JobParseOptions& options) {
  if (body.size() > options.body_size_max) {
    return MakeError(ErrorCode::kMessageTooLarge,
                     absl::StrCat("the body has ", body.size(),
                                  " bytes; at most ", options.body_size_max));
  }
  absl::StatusOr<Json> root = ParseJson(body);
  if (!root.ok()) return root;
  if (!root->view().is_object()) {
    return MakeError(ErrorCode::kIotHubFormatError,
                     absl::StrCat("the body must be a JSON object; got ",
                                  JsonKindName(root->view().kind())));
  }
  return root;
}

// ------------------------------------------------------------------- row 5

// The id: the path's, which the body may repeat, or else the body's.
absl::StatusOr<std::string> ParseId(absl::string_view path_job_id,
                                    JsonView root) {
  if (!path_job_id.empty()) {
    if (absl::Status s = ValidateJobId(path_job_id); !s.ok()) return s;
  }
  const JsonView member = FindPresent(root, "jobId");
  std::string id(path_job_id);
  if (!member.is_undefined()) {
    // The vendor's typings allow a number (wire-facts 4.1).
    if (!member.is_string() && !member.is_integer()) {
      return Invalid(absl::StrCat("jobId must be a string", Got(member)));
    }
    id = member.is_string() ? std::string(member.string_value())
                            : absl::StrCat(member.int_value());
    if (!path_job_id.empty() && id != path_job_id) {
      return Invalid(absl::StrCat("jobId ", Quote(id),
                                  " in the body differs from ",
                                  Quote(path_job_id), " in the path"));
    }
  }
  if (absl::Status s = ValidateJobId(id); !s.ok()) return s;
  return id;
}

// ------------------------------------------------------------------- row 6

absl::StatusOr<JobType> ParseType(JsonView root) {
  const JsonView member = FindPresent(root, "type");
  if (!member.is_string()) {
    return MakeError(
        ErrorCode::kGenericBadRequest,
        absl::StrCat("type must be \"", JobTypeName(JobType::kUpdateTwin),
                     "\" or \"", JobTypeName(JobType::kDeviceMethod), "\"",
                     Got(member)));
  }
  absl::StatusOr<JobType> type = ParseJobType(member.string_value());
  if (!type.ok()) {
    return MakeError(ErrorCode::kGenericBadRequest, type.status().message());
  }
  return type;
}

absl::Status CheckCondition(absl::string_view condition) {
  if (condition.empty()) {
    return Invalid(
        "queryCondition is empty; write \"*\" to select every device");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ParseCondition(JsonView root) {
  const JsonView member = FindPresent(root, "queryCondition");
  if (member.is_undefined()) return Missing("queryCondition");
  if (!member.is_string()) {
    return Invalid(
        absl::StrCat("queryCondition must be a string", Got(member)));
  }
  if (absl::Status s = CheckCondition(member.string_value()); !s.ok()) return s;
  return std::string(member.string_value());
}

absl::string_view ActionMember(JobType type) {
  return type == JobType::kDeviceMethod ? "cloudToDeviceMethod" : "updateTwin";
}

// The object that says what a job of `type` does; the other type's object must
// not be there.
absl::StatusOr<JsonView> FindAction(JsonView root, JobType type) {
  const JobType other = type == JobType::kDeviceMethod ? JobType::kUpdateTwin
                                                       : JobType::kDeviceMethod;
  const JsonView action = FindPresent(root, ActionMember(type));
  if (action.is_undefined()) return Missing(ActionMember(type));
  if (!action.is_object()) {
    return Invalid(
        absl::StrCat(ActionMember(type), " must be an object", Got(action)));
  }
  if (!FindPresent(root, ActionMember(other)).is_undefined()) {
    return Invalid(absl::StrCat(ActionMember(other),
                                " must be absent or null in a job of type \"",
                                JobTypeName(type), "\""));
  }
  return action;
}

// What stands before the names of a method's members in messages: a job has
// them in an object, a call is that object.
constexpr absl::string_view kInJob = "cloudToDeviceMethod.";
constexpr absl::string_view kInCall = "";

absl::Status CheckMethodNamePresent(absl::string_view where,
                                    absl::string_view name) {
  if (name.empty()) {
    return Invalid(absl::StrCat(where, "methodName is empty"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ParseMethodName(absl::string_view where,
                                            JsonView method) {
  const JsonView member = FindPresent(method, "methodName");
  if (member.is_undefined()) return Missing(absl::StrCat(where, "methodName"));
  if (!member.is_string()) {
    return Invalid(
        absl::StrCat(where, "methodName must be a string", Got(member)));
  }
  if (absl::Status s = CheckMethodNamePresent(where, member.string_value());
      !s.ok()) {
    return s;
  }
  return std::string(member.string_value());
}

// ------------------------------------------------------------------- row 7

// What FormatInstant() can print with a year of four digits.  A text within
// those years can leave them by its offset.
absl::Status CheckStartTime(absl::Time time) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  if (time < absl::FromCivil(absl::CivilSecond(1, 1, 1), utc) ||
      time >= absl::FromCivil(absl::CivilSecond(10000, 1, 1), utc)) {
    return Invalid("startTime must lie in the years 0001 to 9999 of UTC");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<absl::Time>> ParseStartTime(JsonView root) {
  const JsonView member = FindPresent(root, "startTime");
  std::optional<absl::Time> time;
  if (member.is_undefined()) return time;
  if (member.is_string()) time = ParseInstant(member.string_value());
  if (!time.has_value()) {
    return Invalid(absl::StrCat(
        "startTime must be an ISO-8601 date-time in a string, such as "
        "\"2031-03-01T22:00:00Z\"",
        Got(member)));
  }
  if (absl::Status s = CheckStartTime(*time); !s.ok()) return s;
  return time;
}

absl::StatusOr<int64_t> ParseMaxExecutionTime(JsonView root) {
  const JsonView member = FindPresent(root, "maxExecutionTimeInSeconds");
  if (member.is_undefined()) return kMaxExecutionTimeSecondsDefault;
  if (!member.is_integer() || member.int_value() < 0) {
    return Invalid(absl::StrCat(
        "maxExecutionTimeInSeconds must be an integer of at least 0, written "
        "without fraction or exponent; 0 stands for ",
        kMaxExecutionTimeSecondsDefault, Got(member)));
  }
  return member.int_value() == 0 ? kMaxExecutionTimeSecondsDefault
                                 : member.int_value();
}

// ------------------------------------------------------------------- row 8

absl::Status CheckMethodName(absl::string_view where, absl::string_view name) {
  const size_t bad = FindBadNameChar(name);
  if (bad != absl::string_view::npos) {
    return BadChar(absl::StrCat(where, "methodName"), name, bad);
  }
  if (name.size() > kMethodNameLengthMax) {
    return Invalid(absl::StrCat(where, "methodName has ", name.size(),
                                " characters; at most ", kMethodNameLengthMax));
  }
  return absl::OkStatus();
}

// What counts is the text that will travel, white space in it included.
absl::Status CheckPayloadSize(absl::string_view where, absl::string_view text) {
  if (text.size() > kMethodPayloadSizeMax) {
    return MakeError(ErrorCode::kMessageTooLarge,
                     absl::StrCat(where, "payload has ", text.size(),
                                  " bytes; at most ", kMethodPayloadSizeMax));
  }
  return absl::OkStatus();
}

absl::Status CheckPayloadChars(absl::string_view where, JsonView payload,
                               const JobParseOptions& options) {
  std::string path = absl::StrCat(where, "payload");
  return CheckChars(
      payload, {.names = true, .strings = options.strict_job_value_charset},
      &path);
}

absl::Status OutOfRange(absl::string_view where, absl::string_view member,
                        int min, int max, absl::string_view got) {
  return Invalid(absl::StrCat(where, member, " must be an integer in [", min,
                              ", ", max, "]", got));
}

absl::StatusOr<int> ParseTimeout(absl::string_view where, JsonView method,
                                 absl::string_view name, int min, int max,
                                 int default_value) {
  const JsonView member = FindPresent(method, name);
  if (member.is_undefined()) return default_value;
  if (!member.is_integer() || member.int_value() < min ||
      member.int_value() > max) {
    return OutOfRange(where, name, min, max, Got(member));
  }
  return static_cast<int>(member.int_value());
}

absl::Status CheckTimeout(absl::string_view where, absl::string_view name,
                          int min, int max, int value) {
  if (value < min || value > max) {
    return OutOfRange(where, name, min, max, absl::StrCat("; got ", value));
  }
  return absl::OkStatus();
}

// `payload_path`: where the payload stands in `body`.
absl::StatusOr<MethodAction> ParseMethod(
    absl::string_view where, JsonView method, std::string name,
    absl::string_view body, const std::vector<absl::string_view>& payload_path,
    const JobParseOptions& options) {
  MethodAction action;
  action.method_name = std::move(name);
  if (absl::Status s = CheckMethodName(where, action.method_name); !s.ok()) {
    return s;
  }

  if (const JsonView payload = FindPresent(method, "payload");
      !payload.is_undefined()) {
    action.payload = RawJsonMember(body, payload_path);
    // Not found by its plain name: the body spells it with \u escapes.
    if (action.payload.empty()) action.payload = JsonText(payload);
    if (absl::Status s = CheckPayloadSize(where, action.payload); !s.ok()) {
      return s;
    }
    if (absl::Status s = CheckPayloadChars(where, payload, options); !s.ok()) {
      return s;
    }
  }

  absl::StatusOr<int> timeout = ParseTimeout(
      where, method, "responseTimeoutInSeconds", kResponseTimeoutSecondsMin,
      kResponseTimeoutSecondsMax, kResponseTimeoutSecondsDefault);
  if (!timeout.ok()) return timeout.status();
  action.response_timeout_seconds = *timeout;

  timeout = ParseTimeout(where, method, "connectTimeoutInSeconds", 0,
                         kConnectTimeoutSecondsMax, 0);
  if (!timeout.ok()) return timeout.status();
  action.connect_timeout_seconds = *timeout;
  return action;
}

absl::Status CheckMethod(absl::string_view where, const MethodAction& action,
                         const JobParseOptions& options) {
  if (absl::Status s = CheckMethodName(where, action.method_name); !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckPayloadSize(where, action.payload); !s.ok()) {
    return s;
  }
  const absl::StatusOr<Json> payload = ParseJson(action.payload);
  if (!payload.ok()) {
    return Invalid(
        absl::StrCat(where, "payload: ", payload.status().message()));
  }
  if (absl::Status s = CheckPayloadChars(where, payload->view(), options);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckTimeout(
          where, "responseTimeoutInSeconds", kResponseTimeoutSecondsMin,
          kResponseTimeoutSecondsMax, action.response_timeout_seconds);
      !s.ok()) {
    return s;
  }
  return CheckTimeout(where, "connectTimeoutInSeconds", 0,
                      kConnectTimeoutSecondsMax,
                      action.connect_timeout_seconds);
}

// Rows 8 and 9 for a twin job.  ParseTwinPatch() looks at the etag last, so
// what the option adds to row 8 goes before it.
absl::StatusOr<TwinUpdateAction> ParseTwinUpdate(
    JsonView update, const JobParseOptions& options) {
  if (options.strict_job_value_charset) {
    const CharRules rules = {.strings = true};
    std::string path = "updateTwin.tags";
    if (absl::Status s = CheckChars(update.Find("tags"), rules, &path);
        !s.ok()) {
      return s;
    }
    path = "updateTwin.properties.desired";
    if (absl::Status s =
            CheckChars(update.Find("properties").Find("desired"), rules, &path);
        !s.ok()) {
      return s;
    }
  }
  absl::StatusOr<TwinPatch> patch = ParseTwinPatch(update, PatchOrigin::kJob);
  if (!patch.ok()) return PrefixError("updateTwin: ", patch.status());
  patch->reported = Json();
  patch->reported_version.reset();
  return TwinUpdateAction{*std::move(patch)};
}

// A patch built in C++ is written down as updateTwin would be and read again.
absl::Status CheckTwinUpdate(const TwinUpdateAction& action,
                             const JobParseOptions& options) {
  if (action.patch.desired_version.has_value()) {
    return Invalid(
        "updateTwin: a job updates twins whatever their version; leave "
        "desired_version empty");
  }
  std::string document;
  JsonBuilder b(&document);
  b.BeginObject();
  if (!action.patch.desired.is_undefined()) {
    b.Key("properties");
    b.BeginObject();
    b.Key("desired");
    b.Value(action.patch.desired.view());
    b.EndObject();
  }
  if (!action.patch.tags.is_undefined()) {
    b.Key("tags");
    b.Value(action.patch.tags.view());
  }
  b.EndObject();
  return ParseTwinUpdate(JsonView::FromEncoded(document.data()), options)
      .status();
}

// ------------------------------------------------------------------ output

void WriteMethod(const MethodAction& action, JsonWriter& w) {
  w.Key("cloudToDeviceMethod").BeginObject();
  w.Key("methodName").String(action.method_name);
  w.Key("payload").Raw(action.payload);
  w.Key("responseTimeoutInSeconds").Int(action.response_timeout_seconds);
  w.Key("connectTimeoutInSeconds").Int(action.connect_timeout_seconds);
  w.EndObject();
}

// The patch as it was sent, but for `reported`, which was ignored.
// deviceId: null is what the live service prints (contract 1.5, 1.6); the
// clients that wire-facts 4.2 was read from take it for absent.
void WriteTwinUpdate(const TwinUpdateAction& action, JsonWriter& w) {
  const TwinPatch& patch = action.patch;
  w.Key("updateTwin").BeginObject();
  w.Key("deviceId").Null();
  w.Key("etag").String("*");
  if (!patch.tags.is_undefined()) w.Key("tags").Value(patch.tags.view());
  if (!patch.desired.is_undefined()) {
    w.Key("properties").BeginObject();
    w.Key("desired").Value(patch.desired.view());
    w.EndObject();
  }
  w.EndObject();
}

}  // namespace

absl::Status ValidateJobId(absl::string_view job_id) {
  if (job_id.empty()) {
    return Invalid("jobId is empty; it must have 1 to 64 characters");
  }
  for (size_t i = 0; i < job_id.size(); ++i) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(job_id[i])) ||
        job_id[i] == '-') {
      continue;
    }
    return Invalid(absl::StrCat("jobId ", Quote(job_id), " has ",
                                Quote(CharAt(job_id, i)),
                                "; allowed: letters, digits and -"));
  }
  if (job_id.size() > kJobIdLengthMax) {
    return Invalid(absl::StrCat("jobId has ", job_id.size(),
                                " characters; at most ", kJobIdLengthMax));
  }
  if (absl::AsciiStrToLower(job_id) == "query") {
    return Invalid(absl::StrCat("jobId ", Quote(job_id),
                                " is reserved: its path lists jobs"));
  }
  return absl::OkStatus();
}

absl::StatusOr<JobRequest> ParseJobRequest(absl::string_view path_job_id,
                                           absl::string_view body,
                                           const JobParseOptions& options) {
  const absl::StatusOr<Json> json = ParseBody(body, options);  // Row 4.
  if (!json.ok()) return json.status();
  const JsonView root = json->view();
  JobRequest request;

  absl::StatusOr<std::string> id = ParseId(path_job_id, root);  // Row 5.
  if (!id.ok()) return id.status();
  request.job_id = *std::move(id);

  const absl::StatusOr<JobType> type = ParseType(root);  // Row 6.
  if (!type.ok()) return type.status();
  absl::StatusOr<std::string> condition = ParseCondition(root);
  if (!condition.ok()) return condition.status();
  request.query_condition = *std::move(condition);
  const absl::StatusOr<JsonView> action = FindAction(root, *type);
  if (!action.ok()) return action.status();
  std::string method_name;
  if (*type == JobType::kDeviceMethod) {
    absl::StatusOr<std::string> name = ParseMethodName(kInJob, *action);
    if (!name.ok()) return name.status();
    method_name = *std::move(name);
  }

  const absl::StatusOr<std::optional<absl::Time>> start_time =
      ParseStartTime(root);  // Row 7.
  if (!start_time.ok()) return start_time.status();
  request.start_time = *start_time;
  const absl::StatusOr<int64_t> seconds = ParseMaxExecutionTime(root);
  if (!seconds.ok()) return seconds.status();
  request.max_execution_time_seconds = *seconds;

  if (*type == JobType::kDeviceMethod) {  // Rows 8 and 9.
    absl::StatusOr<MethodAction> method =
        ParseMethod(kInJob, *action, std::move(method_name), body,
                    {"cloudToDeviceMethod", "payload"}, options);
    if (!method.ok()) return method.status();
    request.action = *std::move(method);
  } else {
    absl::StatusOr<TwinUpdateAction> update = ParseTwinUpdate(*action, options);
    if (!update.ok()) return update.status();
    request.action = *std::move(update);
  }
  return request;
}

absl::Status ValidateJobRequest(const JobRequest& request,
                                const JobParseOptions& options) {
  const MethodAction* method = std::get_if<MethodAction>(&request.action);
  const TwinUpdateAction* update =
      std::get_if<TwinUpdateAction>(&request.action);

  if (absl::Status s = ValidateJobId(request.job_id); !s.ok()) return s;

  if (absl::Status s = CheckCondition(request.query_condition); !s.ok()) {
    return s;
  }
  if (method != nullptr) {
    if (absl::Status s = CheckMethodNamePresent(kInJob, method->method_name);
        !s.ok()) {
      return s;
    }
  }

  if (request.start_time.has_value()) {
    if (absl::Status s = CheckStartTime(*request.start_time); !s.ok()) return s;
  }
  if (request.max_execution_time_seconds < 1) {
    return Invalid(
        absl::StrCat("max_execution_time_seconds must be at least 1; got ",
                     request.max_execution_time_seconds));
  }
  if (request.weight < kJobWeightMin || request.weight > kJobWeightMax) {
    return Invalid(absl::StrCat("weight must be in [", kJobWeightMin, ", ",
                                kJobWeightMax, "]; got ", request.weight));
  }

  return method != nullptr ? CheckMethod(kInJob, *method, options)
                           : CheckTwinUpdate(*update, options);
}

absl::StatusOr<MethodAction> ParseMethodCall(absl::string_view body,
                                             const JobParseOptions& options) {
  const absl::StatusOr<Json> json = ParseBody(body, options);
  if (!json.ok()) return json.status();
  absl::StatusOr<std::string> name = ParseMethodName(kInCall, json->view());
  if (!name.ok()) return name.status();
  return ParseMethod(kInCall, json->view(), *std::move(name), body, {"payload"},
                     options);
}

absl::Status ValidateMethodCall(const MethodAction& action,
                                const JobParseOptions& options) {
  if (absl::Status s = CheckMethodNamePresent(kInCall, action.method_name);
      !s.ok()) {
    return s;
  }
  return CheckMethod(kInCall, action, options);
}

void AppendJobJson(const JobInfo& job, std::string* out) {
  JsonWriter w(out);
  w.BeginObject();
  w.Key("jobId").String(job.job_id);
  w.Key("type").String(JobTypeName(job.type()));
  w.Key("status").String(JobStatusName(job.status));
  w.Key("queryCondition").String(job.query_condition);
  w.Key("createdTime").String(FormatInstant(job.created_time));
  w.Key("startTime").String(FormatInstant(job.start_time));
  if (job.end_time.has_value()) {
    w.Key("endTime").String(FormatInstant(*job.end_time));
  }
  w.Key("maxExecutionTimeInSeconds").Int(job.max_execution_time_seconds);
  if (const MethodAction* method = std::get_if<MethodAction>(&job.action)) {
    WriteMethod(*method, w);
  } else {
    WriteTwinUpdate(std::get<TwinUpdateAction>(job.action), w);
  }
  if (job.status == JobStatus::kFailed) {
    w.Key("failureReason").String(job.failure_reason);
  }
  if (job.statistics.has_value()) {
    const JobStatistics& s = *job.statistics;
    w.Key("deviceJobStatistics").BeginObject();
    w.Key("deviceCount").Int(s.device_count);
    w.Key("failedCount").Int(s.failed_count);
    w.Key("succeededCount").Int(s.succeeded_count);
    w.Key("runningCount").Int(s.running_count);
    w.Key("pendingCount").Int(s.pending_count);
    w.EndObject();
  }
  w.EndObject();
}

void AppendExecutionJson(const ExecutionRecord& record, std::string* out) {
  JsonWriter w(out);
  w.BeginObject();
  w.Key("deviceId").String(record.device_id);
  w.Key("jobId").String(record.job_id);
  w.Key("jobType").String(JobTypeName(record.job_type));
  w.Key("status").String(ExecutionStatusName(record.status));
  if (record.start_time.has_value()) {
    w.Key("startTimeUtc").String(FormatInstant(*record.start_time));
  }
  if (record.end_time.has_value()) {
    w.Key("endTimeUtc").String(FormatInstant(*record.end_time));
  }
  w.Key("createdDateTimeUtc").String(FormatInstant(record.created_time));
  w.Key("lastUpdatedDateTimeUtc")
      .String(FormatInstant(record.last_updated_time));
  if (record.job_type == JobType::kUpdateTwin) {
    w.Key("outcome").BeginObject().Key("deviceMethodResponse").Null();
    w.EndObject();
  } else if (record.response.has_value()) {
    w.Key("outcome").BeginObject().Key("deviceMethodResponse").BeginObject();
    w.Key("status").Int(record.response->status);
    w.Key("payload").Raw(record.response->payload);
    w.EndObject().EndObject();
  }
  if (record.error_code != ErrorCode::kOk) {
    w.Key("error").BeginObject();
    w.Key("code").String(ErrorInfoOf(record.error_code).name);
    w.Key("description").String(record.error_description);
    w.EndObject();
  }
  w.EndObject();
}

}  // namespace muster
