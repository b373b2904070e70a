#include "transport/http/hub/modules.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"

namespace muster::hub {

void RefuseModule(Context& context, Request request, Done done) {
  const absl::Status device = context.engine.GetDevice(request.ids[0]).status();
  if (!device.ok()) return std::move(done)(device);
  std::move(done)(MakeError(
      ErrorCode::kModuleNotFound,
      absl::StrCat("Module ", request.ids[1], " of device ", request.ids[0],
                   " not registered; this hub has no modules")));
}

}  // namespace muster::hub
