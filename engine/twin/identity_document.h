// The registry's part of a twin, as one JSON object: what the journal keeps of
// a change of an identity, and how it comes into a row.
//
//   {"$identity": "<primary key> <secondary key>",
//    "authenticationType": "sas", "capabilities": {"iotEdge": false},
//    "deviceEtag": "AAAAAAAAAAI=", "deviceId": "d1", "status": "enabled",
//    "statusUpdateTime": "0001-01-01T00:00:00Z", "x509Thumbprint": {...}}
//
// All but `$identity` are members of the twin (contract 6.1).  That one is
// hidden: it stands in the row among them, so that columns and snapshots carry
// it, but no document, condition or statement has a name for it.  That a row
// has it says that the registry has written the device.
#ifndef ENGINE_TWIN_IDENTITY_DOCUMENT_H_
#define ENGINE_TWIN_IDENTITY_DOCUMENT_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/twin/parsed_twin.h"

namespace muster {

inline constexpr absl::string_view kIdentityRoot = "$identity";

// Members of a twin that the registry alone writes, once it has written the
// device; in ascending order.  (And `status`, which is no root that is kept.)
inline constexpr absl::string_view kRegistryRoots[] = {
    kIdentityRoot,  "authenticationType", "capabilities",
    "deviceEtag",   "deviceScope",        "parentScopes",
    "statusReason", "statusUpdateTime",   "x509Thumbprint",
};
bool IsRegistryRoot(absl::string_view name);

// Of what the back end says, etag and status_updated_time.  REQUIRES: `device`
// is valid (ValidateDeviceIdentity), and has an authentication_type.
Json IdentityDocument(const DeviceIdentity& device);

// Reads it, as a twin with nothing else; `$identity` is among its roots.  Views
// into the document.  MessageTooLarge for one with very many parent scopes;
// ArgumentInvalid for what IdentityDocument() did not write.
absl::StatusOr<ParsedTwin> ParseIdentityDocument(JsonView document);

// Whether `value` may be a row's `$identity`.  ArgumentInvalid.
absl::Status ValidateIdentityRoot(JsonView value);
// The keys in it.
void ReadIdentityRoot(JsonView value, DeviceIdentity* device);

}  // namespace muster

#endif  // ENGINE_TWIN_IDENTITY_DOCUMENT_H_
