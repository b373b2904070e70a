#include "transport/http/hub/hub_service.h"

#include <iterator>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/variant.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/profile.h"
#include "engine/schedule/throttle.h"
#include "openssl/rand.h"
#include "transport/http/hub/envelope.h"
#include "transport/http/hub/route.h"
#include "transport/http/hub/router.h"
#include "transport/http/hub/target.h"

namespace muster {
namespace {

using hub::Done;
using hub::Request;
using hub::Route;
using hub::Router;
using hub::Target;
using hub::Throttled;

// Contract 4.1: one behaviour for all.
constexpr absl::string_view kApiVersions[] = {
    "2016-09-30-preview", "2016-11-14", "2018-06-30", "2020-03-13",
    "2020-05-31-preview", "2020-09-30", "2021-04-12",
};

absl::Status CheckApiVersion(const Request& request) {
  const absl::string_view version = request.Parameter("api-version");
  for (const absl::string_view known : kApiVersions) {
    if (version == known) return absl::OkStatus();
  }
  return MakeError(
      ErrorCode::kInvalidProtocolVersion,
      absl::StrCat(
          version.empty()
              ? std::string("the parameter api-version is missing")
              : absl::StrCat("api-version \"", version, "\" is not known"),
          "; the current one is ", std::end(kApiVersions)[-1]));
}

// A body of another media type than JSON.  One that says nothing is taken for
// JSON: what it is shows when it is read.
absl::Status CheckContentType(const HttpRequest& request) {
  const absl::string_view type = request.Header("Content-Type");
  const absl::string_view media_type =
      absl::StripAsciiWhitespace(type.substr(0, type.find(';')));
  if (media_type.empty() ||
      absl::EqualsIgnoreCase(media_type, "application/json")) {
    return absl::OkStatus();
  }
  return MakeError(
      ErrorCode::kGenericUnsupportedMediaType,
      absl::StrCat("Content-Type must be application/json; got ", media_type));
}

// Whether it is a request that has to say how long its body is, and does not
// (contract 4.1).
bool LacksContentLength(const HttpRequest& request) {
  if (!request.body.empty()) return false;
  if (request.method != "POST" && request.method != "PUT" &&
      request.method != "PATCH") {
    return false;
  }
  for (const auto& [name, value] : request.headers) {
    if (absl::EqualsIgnoreCase(name, "Content-Length") ||
        absl::EqualsIgnoreCase(name, "Transfer-Encoding")) {
      return false;
    }
  }
  return true;
}

const HubServiceOptions& Checked(const HubServiceOptions& options) {
  MUSTER_CHECK(options.engine != nullptr && options.clock != nullptr);
  return options;
}

RoleSet AllRoles() {
  return {Role::kRegistryRead, Role::kRegistryWrite, Role::kServiceConnect,
          Role::kDeviceConnect};
}

// A profile's rates (contract 9.2), each with a bucket of its own.
class Throttles {
 public:
  explicit Throttles(const Profile& profile)
      : jobs_("job operations", profile.job_operations_per_minute),
        queries_("queries", profile.queries_per_minute),
        twin_reads_("twin reads", profile.twin_reads_per_minute),
        twin_updates_("twin updates", profile.twin_updates_per_minute),
        methods_("4 KB steps of direct methods",
                 profile.direct_method_steps_per_minute),
        identities_("identity operations",
                    profile.identity_operations_per_minute) {}

  // ThrottlingException if there is no room for one more.
  absl::Status Take(Throttled what, absl::Duration now) {
    switch (what) {
      case Throttled::kJobOperations:
        return jobs_.Take(1, now);
      case Throttled::kQueries:
        return queries_.Take(1, now);
      case Throttled::kTwinReads:
        return twin_reads_.Take(1, now);
      case Throttled::kTwinUpdates:
        return twin_updates_.Take(1, now);
      case Throttled::kDirectMethods:
        return methods_.Take(1, now);
      case Throttled::kIdentityOperations:
        return identities_.Take(1, now);
    }
    MUSTER_CHECK(false && "a throttle that is not in the list");
  }

  // Of methods: for the steps of a payload that is longer than one.
  Throttle& method_steps() { return methods_; }

 private:
  Throttle jobs_;
  Throttle queries_;
  Throttle twin_reads_;
  Throttle twin_updates_;
  Throttle methods_;
  Throttle identities_;
};

}  // namespace

RandomSource SystemRandom() {
  return [](absl::Span<uint8_t> bytes) {
    MUSTER_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  };
}

namespace hub {

absl::string_view Request::Parameter(absl::string_view name) const {
  for (const auto& [parameter, value] : query) {
    if (parameter == name) return value;
  }
  return "";
}

HttpResponse JsonResponse(std::string body) {
  return {.content_type = "application/json; charset=utf-8",
          .body = std::move(body)};
}

absl::string_view IfMatch(const Request& request) {
  return request.http.Header("If-Match");
}

}  // namespace hub

class HubService::Impl {
 public:
  explicit Impl(const HubServiceOptions& options)
      : options_(Checked(options)),
        random_(options.random != nullptr ? options.random : SystemRandom()),
        throttles_(options.profile),
        context_{*options_.engine, *options_.clock, random_, options_.budget,
                 throttles_.method_steps()},
        router_(hub::AllRoutes()) {}

  HttpAdmission Admit(const HttpRequest& http) {
    Target target = hub::ParseTarget(http.target);
    const Router::Match match = router_.Find(http.method, target.segments);
    if (match.route == nullptr) {
      return NoRoute(http.method, target, match.allowed);
    }
    if (LacksContentLength(http)) {
      return Refusal(
          411, absl::StrCat(http.method, " needs a Content-Length, also of 0"));
    }
    Request request;
    request.query = std::move(target.query);
    if (absl::Status s = Check(http, target, *match.route, &request); !s.ok()) {
      return Error(s);
    }
    request.ids = Router::TakeIds(*match.route, std::move(target.segments));
    HttpAdmitted admitted;
    admitted.body_bytes_max = match.route->body_size_max;
    admitted.handle = [this, route = match.route, request = std::move(request)](
                          HttpRequest whole, HttpReply reply) mutable {
      request.http = std::move(whole);
      Run(*route, std::move(request), std::move(reply));
    };
    return admitted;
  }

  void Run(const Route& route, Request request, HttpReply reply) {
    Done done = [this, reply = std::move(reply)](
                    absl::StatusOr<HttpResponse> response) mutable {
      std::move(reply)(response.ok() ? *std::move(response)
                                     : Error(response.status()));
    };
    if (!route.blocks || options_.executor == nullptr) {
      route.handle(context_, std::move(request), std::move(done));
      return;
    }
    // How many wait is up to the server: each is on a connection of its own.
    options_.executor->Run([this, &route, request = std::move(request),
                            done = std::move(done)]() mutable {
      route.handle(context_, std::move(request), std::move(done));
    });
  }

  HttpResponse Refusal(int status, absl::string_view why) {
    return hub::HttpErrorResponse(status, why, options_.clock->Now(), random_);
  }

 private:
  // What every route asks for.  Of `request` the query is there, and the roles
  // are filled in.
  absl::Status Check(const HttpRequest& http, const Target& target,
                     const Route& route, Request* request) {
    if (absl::Status s = CheckApiVersion(*request); !s.ok()) return s;
    if (absl::Status s = Authorize(http, target, route, &request->roles);
        !s.ok()) {
      return s;
    }
    if (absl::Status s =
            throttles_.Take(route.throttled, options_.clock->Monotonic());
        !s.ok()) {
      return s;
    }
    return route.has_body ? CheckContentType(http) : absl::OkStatus();
  }

  absl::Status Authorize(const HttpRequest& http, const Target& target,
                         const Route& route, RoleSet* roles) const {
    if (options_.access == nullptr) {
      *roles = AllRoles();
      return absl::OkStatus();
    }
    const std::string path = target.Path();
    const absl::StatusOr<Caller> caller = options_.access->Authenticate(
        {.authorization = http.Header("Authorization"), .path = path},
        options_.clock->Now());
    if (!caller.ok()) return caller.status();
    *roles = caller->roles;
    std::string needed;
    for (const Role role : route.roles) {
      if (caller->roles.Has(role)) return absl::OkStatus();
      absl::StrAppend(&needed, needed.empty() ? "" : " or ", RoleName(role));
    }
    return MakeError(ErrorCode::kIotHubUnauthorizedAccess,
                     absl::StrCat(route.method, " ", route.pattern,
                                  " needs the permission ", needed, "; ",
                                  caller->name, " has ", caller->roles.Text()));
  }

  HttpResponse NoRoute(absl::string_view method, const Target& target,
                       const std::string& allowed) const {
    if (allowed.empty()) {
      return Error(
          MakeError(ErrorCode::kGenericNotFound,
                    absl::StrCat("there is nothing at ", target.Path())));
    }
    HttpResponse response = Error(MakeError(
        ErrorCode::kGenericMethodNotAllowed,
        absl::StrCat(target.Path(), " has no ", method, ", only ", allowed)));
    response.headers.emplace_back("Allow", allowed);
    return response;
  }

  HttpResponse Error(const absl::Status& status) const {
    return hub::ErrorResponse(status, options_.clock->Now(), random_);
  }

  const HubServiceOptions options_;
  const RandomSource random_;
  Throttles throttles_;  // Thread-safe.
  hub::Context context_;
  const Router router_;
};

HubService::HubService(const HubServiceOptions& options)
    : impl_(std::make_unique<Impl>(options)) {}

HubService::~HubService() = default;

HttpAdmission HubService::Admit(const HttpRequest& header) {
  return impl_->Admit(header);
}

void HubService::Handle(const HttpRequest& request, HttpReply reply) {
  HttpAdmission admission = Admit(request);
  if (auto* const response = absl::get_if<HttpResponse>(&admission)) {
    std::move(reply)(std::move(*response));
  } else {
    std::move(absl::get<HttpAdmitted>(admission).handle)(request,
                                                         std::move(reply));
  }
}

HttpResponse HubService::Refusal(int status, absl::string_view why) {
  return impl_->Refusal(status, why);
}

}  // namespace muster
