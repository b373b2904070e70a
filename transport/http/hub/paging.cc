#include "transport/http/hub/paging.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace muster::hub {
namespace {

int PageSize(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  int64_t size = 0;
  if (absl::SimpleAtoi(text, &size)) {
    return static_cast<int>(
        std::clamp<int64_t>(size, 1, int64_t{kHubPageSizeMax}));
  }
  // Text, or a number beyond all numbers.
  const bool negative = !text.empty() && text.front() == '-';
  const absl::string_view digits = text.substr(negative ? 1 : 0);
  const bool is_number =
      !digits.empty() &&
      digits.find_first_not_of("0123456789") == absl::string_view::npos;
  return is_number && negative ? 1 : kHubPageSizeMax;
}

absl::string_view HeaderOrParameter(const Request& request,
                                    absl::string_view header,
                                    absl::string_view parameter) {
  const absl::string_view value = request.http.Header(header);
  return value.empty() ? request.Parameter(parameter) : value;
}

}  // namespace

PageRequest ReadPageRequest(const Request& request) {
  PageRequest page;
  const absl::string_view size =
      HeaderOrParameter(request, "x-ms-max-item-count", "pageSize");
  if (!size.empty()) page.size = PageSize(size);
  page.continuation = std::string(
      HeaderOrParameter(request, "x-ms-continuation", "continuationToken"));
  return page;
}

HttpResponse PageResponse(std::string rows, absl::string_view item_type,
                          std::string continuation) {
  HttpResponse response = JsonResponse(std::move(rows));
  response.headers.emplace_back("x-ms-item-type", std::string(item_type));
  if (!continuation.empty()) {
    response.headers.emplace_back("x-ms-continuation", std::move(continuation));
  }
  return response;
}

}  // namespace muster::hub
