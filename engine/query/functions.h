// The functions of the query language: names, arities, profiles, meaning.
#ifndef ENGINE_QUERY_FUNCTIONS_H_
#define ENGINE_QUERY_FUNCTIONS_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/query/options.h"
#include "engine/query/value.h"

namespace muster {

// A string that a function would make longer than this, in bytes, is undefined
// instead.  No value of a row is as long; it bounds what CONCAT can pile up.
inline constexpr size_t kQueryStringSizeMax = size_t{256} * 1024;

enum class Function : uint8_t {
  kIsDefined,
  kIsArray,
  kIsBool,
  kIsNull,
  kIsNumber,
  kIsObject,
  kIsPrimitive,
  kIsString,
  kStartsWith,
  kEndsWith,
  kContains,
  kArrayContains,
  kAsNumber,
  kConcat,
  kLength,
  kLower,
  kUpper,
  kSubstring,
  kIndexOf,
  kAbs,
  kExp,
  kPower,
  kSquare,
  kCeiling,
  kFloor,
  kSign,
  kSqrt,
};

struct FunctionInfo {
  absl::string_view name;  // In capitals.
  int argument_count_min;
  int argument_count_max;
  Function function;
  FunctionProfile profile;  // The narrowest profile that has it.
};

// By name or alias, whatever the case; nullptr if there is none.
const FunctionInfo* FindFunction(absl::string_view name);

const FunctionInfo& FunctionInfoOf(Function function);

// Whether texts may call it under `profile`.
bool InProfile(const FunctionInfo& info, FunctionProfile profile);

// The name in `profile` that is nearest to `name`, for "did you mean"; empty if
// none is near.
absl::string_view NearestFunctionName(absl::string_view name,
                                      FunctionProfile profile);

// Calls it.  Arguments of the wrong kind give undefined, or false for the IS_
// family (contract 5.7).  The result may point into the arguments.
// REQUIRES: a number of arguments that the function takes.
Value CallFunction(Function function, absl::Span<const Value> arguments,
                   Scratch* scratch);

}  // namespace muster

#endif  // ENGINE_QUERY_FUNCTIONS_H_
