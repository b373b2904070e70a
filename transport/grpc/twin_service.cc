#include "transport/grpc/twin_service.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/parse_error.h"
#include "transport/grpc/convert.h"
#include "transport/grpc/import_stream.h"
#include "transport/grpc/names.h"
#include "transport/grpc/page_size.h"
#include "transport/grpc/row_stream.h"
#include "transport/grpc/status.h"
#include "transport/grpc/twin_mask.h"
#include "transport/grpc/twin_query.h"

namespace muster {
namespace {

// How often a change of single members is tried while others change the twin.
constexpr int kUpdateTriesMax = 16;

// The value that has to be there: JSON text of an object.
absl::StatusOr<Json> ParseObject(absl::string_view field,
                                 absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) {
    return AtField(field,
                   PrefixError(absl::StrCat(field, ": "), json.status()));
  }
  if (!json->view().is_object()) {
    return FieldError(field, absl::StrCat("must be a JSON object; got a ",
                                          JsonKindName(json->view().kind())));
  }
  return json;
}

// Errors of the engine about the text in `field`.
absl::Status AtText(absl::string_view field, const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? AtField(field, status) : status;
}

bool IsAny(absl::string_view etag) { return etag.empty() || etag == "*"; }

// `document` with "deviceId", whatever it had.
std::string WithDeviceId(absl::string_view device_id, JsonView document) {
  std::string text;
  JsonWriter writer(&text);
  writer.BeginObject();
  writer.Key("deviceId").String(device_id);
  for (const JsonView::Member& member : document.members()) {
    if (member.key == "deviceId") continue;
    writer.Key(member.key).Value(member.value);
  }
  writer.EndObject();
  return text;
}

}  // namespace

TwinService::TwinService(const ServiceContext& context)
    : context_(context),
      engine_(context.engine),
      calls_(context.guard, context.executor) {}

// ----------------------------------------------------------------------- read

absl::Status TwinService::Get(absl::string_view device_id,
                              v1::Twin* response) const {
  absl::StatusOr<TwinSnapshot> twin = engine_->GetTwin(device_id);
  if (!twin.ok()) return twin.status();
  *response = ToTwin(*twin);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* TwinService::GetTwin(
    grpc::CallbackServerContext* context, const v1::GetTwinRequest* request,
    v1::Twin* response) {
  return calls_.RunHere(
      context, Role::kRead, "GetTwin", [=, this]() -> absl::Status {
        absl::StatusOr<std::string> id = ParseTwinName("name", request->name());
        if (!id.ok()) return id.status();
        return Get(*id, response);
      });
}

absl::Status TwinService::Query(const grpc::CallbackServerContext& context,
                                const v1::QueryTwinsRequest& request,
                                v1::QueryTwinsResponse* response) const {
  absl::StatusOr<int> size = PageSize(request.page_size(), 100, 10'000);
  if (!size.ok()) return size.status();
  absl::StatusOr<int64_t> weight = ReadStatementWeight(request.query());
  if (!weight.ok()) return weight.status();
  absl::StatusOr<TwinPage> page =
      QueryPage(context, engine_, context_.budget, request.query(), *weight,
                *size, kRowBytesMax, request.page_token());
  if (!page.ok()) return page.status();
  for (std::string& row : page->rows) *response->add_rows() = std::move(row);
  response->set_item_type(page->item_type);
  response->set_next_page_token(page->continuation);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* TwinService::QueryTwins(
    grpc::CallbackServerContext* context, const v1::QueryTwinsRequest* request,
    v1::QueryTwinsResponse* response) {
  return calls_.RunOnExecutor(context, Role::kRead, "QueryTwins", [=, this] {
    return Query(*context, *request, response);
  });
}

grpc::ServerWriteReactor<v1::StreamTwinsResponse>* TwinService::StreamTwins(
    grpc::CallbackServerContext* context,
    const v1::StreamTwinsRequest* request) {
  return NewRowStream(context_, context, request);
}

// ---------------------------------------------------------------------- write

absl::Status TwinService::UpdateByMask(absl::string_view device_id,
                                       const v1::UpdateTwinRequest& request) {
  absl::StatusOr<TwinMask> mask = TwinMask::Parse(request.update_mask());
  if (!mask.ok()) return mask.status();
  const std::string& text = request.twin().document();
  absl::StatusOr<Json> document =
      text.empty() ? Json::EmptyObject() : ParseObject("twin.document", text);
  if (!document.ok()) return document.status();
  const std::string& etag = request.twin().etag();
  if (mask->whole_sections()) {
    return AtText(
        "twin.document",
        engine_
            ->ReplaceTwin(device_id, mask->Apply(JsonView(), document->view()),
                          etag)
            .status());
  }
  // Read, change, write unless somebody else has written meanwhile.
  for (int left = kUpdateTriesMax;; --left) {
    absl::StatusOr<TwinSnapshot> twin = engine_->GetTwin(device_id);
    if (!twin.ok()) return twin.status();
    const absl::Status status =
        engine_
            ->ReplaceTwin(device_id,
                          mask->Apply(twin->document.view(), document->view()),
                          IsAny(etag) ? twin->etag : etag)
            .status();
    if (ErrorCodeOf(status) == ErrorCode::kPreconditionFailed && IsAny(etag) &&
        left > 1) {
      continue;
    }
    return AtText("twin.document", status);
  }
}

absl::Status TwinService::Update(const v1::UpdateTwinRequest& request,
                                 v1::Twin* response) {
  absl::StatusOr<std::string> id =
      ParseTwinName("twin.name", request.twin().name());
  if (!id.ok()) return id.status();
  const bool patch = !request.merge_patch().empty();
  if (patch == request.has_update_mask()) {
    return FieldError("merge_patch",
                      patch ? "not together with update_mask: give one of them"
                            : "either this or update_mask is needed");
  }
  const absl::Status status =
      patch ? AtText("merge_patch", engine_
                                        ->PatchTwin(*id, request.merge_patch(),
                                                    request.twin().etag())
                                        .status())
            : UpdateByMask(*id, request);
  if (!status.ok()) return status;
  return Get(*id, response);
}

grpc::ServerUnaryReactor* TwinService::UpdateTwin(
    grpc::CallbackServerContext* context, const v1::UpdateTwinRequest* request,
    v1::Twin* response) {
  return calls_.RunOnExecutor(context, Role::kWrite, "UpdateTwin",
                              [=, this] { return Update(*request, response); });
}

absl::Status TwinService::Replace(const v1::ReplaceTwinRequest& request,
                                  v1::Twin* response) {
  absl::StatusOr<std::string> id =
      ParseTwinName("twin.name", request.twin().name());
  if (!id.ok()) return id.status();
  absl::StatusOr<Json> document =
      ParseObject("twin.document", request.twin().document());
  if (!document.ok()) return document.status();
  const JsonView named = document->view().Find("deviceId");
  if (named.is_string() && named.string_value() != *id) {
    return FieldError(
        "twin.document",
        absl::StrCat("its deviceId is ", Quoted(named.string_value()),
                     ", and twin.name says ", Quoted(*id)));
  }
  absl::Status status =
      engine_
          ->ReplaceTwin(*id, request.twin().document(), request.twin().etag())
          .status();
  if (ErrorCodeOf(status) == ErrorCode::kDeviceNotFound &&
      request.allow_missing()) {
    // What is not there has no etag.
    status = IsAny(request.twin().etag())
                 ? engine_->UpsertTwin(WithDeviceId(*id, document->view()))
                 : MakeError(ErrorCode::kPreconditionFailed,
                             absl::StrCat("there is no twin ", Quoted(*id),
                                          ", and so none with that etag"));
  }
  if (!status.ok()) return AtText("twin.document", status);
  return Get(*id, response);
}

grpc::ServerUnaryReactor* TwinService::ReplaceTwin(
    grpc::CallbackServerContext* context, const v1::ReplaceTwinRequest* request,
    v1::Twin* response) {
  return calls_.RunOnExecutor(context, Role::kWrite, "ReplaceTwin", [=, this] {
    return Replace(*request, response);
  });
}

grpc::ServerUnaryReactor* TwinService::DeleteTwin(
    grpc::CallbackServerContext* context, const v1::DeleteTwinRequest* request,
    google::protobuf::Empty* response) {
  return calls_.RunOnExecutor(
      context, Role::kWrite, "DeleteTwin", [=, this]() -> absl::Status {
        absl::StatusOr<std::string> id = ParseTwinName("name", request->name());
        if (!id.ok()) return id.status();
        return engine_->EraseTwin(*id);
      });
}

grpc::ServerReadReactor<v1::ImportTwinsRequest>* TwinService::ImportTwins(
    grpc::CallbackServerContext* context, v1::ImportTwinsResponse* response) {
  return NewImportStream(context_, context, response);
}

}  // namespace muster
