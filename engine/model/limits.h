// Every limit of the contract that a caller can meet, once.  Sizes in bytes
// (1 KB = 1024), lengths of query text in code points, times in seconds.
#ifndef ENGINE_MODEL_LIMITS_H_
#define ENGINE_MODEL_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace muster {

// Jobs (contract 1.1, 1.2, 1.4, 1.10).
inline constexpr size_t kJobIdLengthMax = 64;
inline constexpr size_t kJobBodySizeMax = size_t{256} * 1024;
inline constexpr size_t kMethodNameLengthMax = 100;
inline constexpr size_t kMethodPayloadSizeMax =
    size_t{128} * 1024;  // Each direction.
inline constexpr int kResponseTimeoutSecondsMin = 5;
inline constexpr int kResponseTimeoutSecondsMax = 300;
inline constexpr int kResponseTimeoutSecondsDefault = 30;
inline constexpr int kConnectTimeoutSecondsMax = 300;
inline constexpr int64_t kMaxExecutionTimeSecondsDefault = 3600;
inline constexpr int kJobWeightMin = 1;
inline constexpr int kJobWeightMax = 1000;
inline constexpr int kJobWeightDefault = 100;
inline constexpr int kMethodsInFlightPerDeviceMax = 10;  // Contract 7.2.
inline constexpr int kDirectMethodsMax = 65'536;         // Outside of jobs.
// Payloads of those that are under way; and of answers on the way to callers.
inline constexpr size_t kDirectMethodBytesMax = size_t{256} << 20;
inline constexpr size_t kDirectMethodAnswerBytesMax = size_t{256} << 20;
inline constexpr int kJobHistoryDays = 30;  // Contract 2.9.

// Queries (contract 5.4, 4.5).
inline constexpr size_t kQueryLengthMax = 8192;  // Code points.
inline constexpr int kQueryDepthMax = 64;
inline constexpr size_t kQueryListTokensMax = 2048;
inline constexpr int kHubPageSizeMax = 100;

// The registry (wire-facts 6).
inline constexpr int kDevicesListedMax = 1000;     // Of one answer.
inline constexpr size_t kDevicesChangedMax = 100;  // Of one request.

// Twins (contract 6.1, 6.3).
inline constexpr size_t kDeviceIdLengthMax = 128;
inline constexpr size_t kTwinKeySizeMax = 1024;
inline constexpr size_t kTwinStringSizeMax = size_t{4} * 1024;
inline constexpr int kTwinDepthMax = 10;
// Bytes that an array may take as it is stored.  What counts as nothing towards
// a section's size (empty strings, nulls, control characters) takes room too.
inline constexpr size_t kTwinArrayBytesMax = size_t{64} * 1024;
inline constexpr size_t kTwinTagsSizeMax = size_t{8} * 1024;
inline constexpr size_t kTwinPropertiesSizeMax =
    size_t{32} * 1024;                                         // Each section.
inline constexpr int64_t kTwinIntegerMin = -4503599627370496;  // -2^52
inline constexpr int64_t kTwinIntegerMax = 4503599627370495;   // 2^52 - 1
inline constexpr size_t kTwinStatusReasonLengthMax = 128;

}  // namespace muster

#endif  // ENGINE_MODEL_LIMITS_H_
