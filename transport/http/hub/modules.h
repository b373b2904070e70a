// Modules of devices (R10 of contract 4.2): nothing makes one, so there are
// none.
#ifndef TRANSPORT_HTTP_HUB_MODULES_H_
#define TRANSPORT_HTTP_HUB_MODULES_H_

#include "transport/http/hub/route.h"

namespace muster::hub {

// ModuleNotFound; DeviceNotFound if there is no such device either.
// REQUIRES: the path's ids are the device's and the module's.
void RefuseModule(Context& context, Request request, Done done);

}  // namespace muster::hub

#endif  // TRANSPORT_HTTP_HUB_MODULES_H_
