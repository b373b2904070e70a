// A hub with its REST surface, without sockets, in one thread on simulated
// time.
//
//   RestHub hub;
//   hub.AddDevice("d1");
//   const RestAnswer answer = hub.Send("GET", "/twins/d1");
//   EXPECT_EQ(answer.status, 200);
#ifndef TESTS_REST_HUB_H_
#define TESTS_REST_HUB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/hub_fixture.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"

namespace muster {

struct RestAnswer {
  int status = 0;
  HttpHeaders headers;  // Content-Type among them.
  std::string body;

  // In any case of letters; "" if there is none.
  std::string Header(absl::string_view name) const {
    for (const auto& [header, value] : headers) {
      if (absl::EqualsIgnoreCase(header, name)) return value;
    }
    return "";
  }
  // REQUIRES: the body is JSON.
  Json Document() const {
    absl::StatusOr<Json> json = ParseJson(body);
    EXPECT_TRUE(json.ok()) << json.status() << ": " << body;
    return json.ok() ? *std::move(json) : Json();
  }
  // "JobNotFound"; "" for an answer that is no error.
  std::string error() const { return Header("iothub-errorcode"); }
  // What an error says, without its name.
  std::string message() const {
    const Json document = Document();
    const JsonView message = document.view().Find("Message");
    if (!message.is_string()) return "";
    const absl::string_view text = message.string_value();
    return std::string(text.substr(text.find(';') + 1));
  }
};

class RestHub : public Hub {
 public:
  // `rest`: its engine, and its clock, are the hub's own.
  explicit RestHub(EngineOptions engine = {}, HubServiceOptions rest = {},
                   LoopbackOptions devices = {})
      : Hub(std::move(engine), std::move(devices)) {
    rest.clock = &time;
    if (rest.random == nullptr) {
      // 00 01 02 ...
      rest.random =
          [next = std::make_shared<uint8_t>(0)](absl::Span<uint8_t> bytes) {
            for (uint8_t& byte : bytes) byte = (*next)++;
          };
    }
    rest_ = std::move(rest);
    StartService();
  }

  // Of the engine and the surface: see Hub.
  void Restart() {
    service_.reset();
    Hub::Restart();
    StartService();
  }

  HubService& service() { return *service_; }

  // Of a request that may be answered later.
  struct Pending {
    std::vector<RestAnswer> answers;  // Exactly one, in the end.
  };
  std::shared_ptr<Pending> Start(const HttpRequest& request) {
    auto pending = std::make_shared<Pending>();
    service_->Handle(request, [pending](HttpResponse response) {
      RestAnswer answer;
      answer.status = response.status;
      answer.headers = std::move(response.headers);
      answer.headers.emplace_back("Content-Type", response.content_type);
      answer.body = std::move(response.body);
      pending->answers.push_back(std::move(answer));
    });
    time.RunReady();
    return pending;
  }

  // As an SDK sends it: with api-version, unless the target has one, and with a
  // body, or with a method that may have one, with Content-Length and, for a
  // body, Content-Type, unless `headers` have them.
  static HttpRequest Request(absl::string_view method, absl::string_view target,
                             absl::string_view body = "",
                             HttpHeaders headers = {}) {
    HttpRequest request;
    request.method = std::string(method);
    request.target = std::string(target);
    if (!absl::StrContains(target, "api-version")) {
      absl::StrAppend(&request.target,
                      absl::StrContains(target, '?') ? "&" : "?",
                      "api-version=2021-04-12");
    }
    request.body = std::string(body);
    request.headers = std::move(headers);
    const auto add = [&](absl::string_view name, absl::string_view value) {
      if (request.Header(name).empty()) {
        request.headers.emplace_back(std::string(name), std::string(value));
      }
    };
    if (method != "GET" && method != "DELETE") {
      add("Content-Length", absl::StrCat(body.size()));
    }
    if (!body.empty()) add("Content-Type", "application/json; charset=utf-8");
    return request;
  }
  std::shared_ptr<Pending> Start(absl::string_view method,
                                 absl::string_view target,
                                 absl::string_view body = "",
                                 HttpHeaders headers = {}) {
    return Start(Request(method, target, body, std::move(headers)));
  }

  // REQUIRES: it is answered without time passing.
  RestAnswer Send(const HttpRequest& request) {
    const std::shared_ptr<Pending> pending = Start(request);
    EXPECT_EQ(pending->answers.size(), 1u)
        << request.method << " " << request.target;
    return pending->answers.empty() ? RestAnswer() : pending->answers[0];
  }
  RestAnswer Send(absl::string_view method, absl::string_view target,
                  absl::string_view body = "", HttpHeaders headers = {}) {
    return Send(Request(method, target, body, std::move(headers)));
  }

 private:
  void StartService() {
    rest_.engine = &engine();
    service_ = std::make_unique<HubService>(rest_);
  }

  HubServiceOptions rest_;
  std::unique_ptr<HubService> service_;
};

}  // namespace muster

#endif  // TESTS_REST_HUB_H_
