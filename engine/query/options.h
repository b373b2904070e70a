// What an operator may choose about the query language.
#ifndef ENGINE_QUERY_OPTIONS_H_
#define ENGINE_QUERY_OPTIONS_H_

#include <cstdint>

namespace muster {

// Which functions a text may call.  The public documents grant twins and jobs
// less than official samples use, and both less than message routes have
// (contract 5.7).  A call outside the profile is a parse error.
enum class FunctionProfile : uint8_t {
  kAll,         // Every function of contract 5.7.
  kObserved,    // IS_DEFINED, STARTSWITH with its alias, ARRAY_CONTAINS.
  kDocumented,  // IS_DEFINED only.
};

struct QueryOptions {
  FunctionProfile function_profile = FunctionProfile::kAll;
};

}  // namespace muster

#endif  // ENGINE_QUERY_OPTIONS_H_
