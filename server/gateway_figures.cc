#include "server/gateway_figures.h"

#include "absl/strings/str_cat.h"
#include "engine/model/json.h"
#include "server/text.h"

namespace muster {

void GatewayFigures::Add(const GatewayFigures& other) {
  streams_up += other.streams_up;
  devices += other.devices;
  attached += other.attached;
  refused += other.refused;
  in_flight += other.in_flight;
  calls += other.calls;
  answers += other.answers;
  timeouts += other.timeouts;
  streams += other.streams;
  if (error.empty()) error = other.error;
}

std::string GatewayFiguresJson(absl::string_view name,
                               const GatewayFigures& figures) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("event").String("gateway").Key("name").String(name);
  json.Key("attached").Bool(figures.streams_up > 0);
  json.Key("devices").Int(figures.devices);
  json.Key("attachedDevices").Int(figures.attached);
  json.Key("refusedDevices").Int(figures.refused);
  json.Key("inFlight").Int(figures.in_flight);
  json.Key("calls").Int(figures.calls);
  json.Key("answers").Int(figures.answers);
  json.Key("timeouts").Int(figures.timeouts);
  json.Key("streams").Int(figures.streams);
  json.Key("error").String(figures.error).EndObject();
  return out;
}

absl::StatusOr<GatewayFigures> ParseGatewayFigures(absl::string_view json) {
  absl::StatusOr<Json> parsed = ParseJson(json);
  if (!parsed.ok()) return parsed.status();
  const JsonView v = parsed->view();
  bool right = true;
  const auto count = [&](absl::string_view name) -> int64_t {
    const JsonView value = v.Find(name);
    right = right && value.is_integer();
    return value.is_integer() ? value.int_value() : 0;
  };
  GatewayFigures figures;
  figures.streams_up =
      v.Find("attached").is_bool() && v.Find("attached").bool_value() ? 1 : 0;
  figures.devices = count("devices");
  figures.attached = count("attachedDevices");
  figures.refused = count("refusedDevices");
  figures.in_flight = count("inFlight");
  figures.calls = count("calls");
  figures.answers = count("answers");
  figures.timeouts = count("timeouts");
  figures.streams = count("streams");
  const JsonView error = v.Find("error");
  if (!right || !error.is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no figures of a gateway: ", json));
  }
  figures.error = std::string(error.string_value());
  return figures;
}

Progress ProgressOfGateways(absl::string_view label, int64_t devices,
                            const GatewayFigures& figures, double rate) {
  Progress progress;
  progress.label = std::string(label);
  progress.done = figures.attached;
  progress.total = devices;
  progress.figures = absl::StrCat(WithCommas(figures.attached), " of ",
                                  Counted(devices, "device"), " attached");
  progress.detail =
      absl::StrCat("answered ", WithCommas(figures.answers), "  in flight ",
                   WithCommas(figures.in_flight),
                   figures.refused > 0
                       ? absl::StrCat("  refused ", WithCommas(figures.refused))
                       : "");
  progress.short_detail =
      absl::StrCat(ShortCount(figures.attached), " attached  answered ",
                   ShortCount(figures.answers));
  progress.rate = figures.answers > 0 ? rate : -1;
  // Not the time until all are attached, of which the rate says nothing.
  progress.left = " ";
  return progress;
}

void NoteError(const GatewayFigures& figures, std::string* said,
               ProgressLine& line) {
  if (figures.error == *said) return;
  *said = figures.error;
  if (!said->empty()) line.Note(*said);
}

}  // namespace muster
