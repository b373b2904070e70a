// The reference evaluator: what an expression is worth in one row.
//
// Slow and obviously right: it follows the tables of contract 5.6 word by word
// and knows no shortcut but that of AND and OR.  Every other way to evaluate a
// condition is tested against it.
#ifndef ENGINE_QUERY_EVALUATOR_H_
#define ENGINE_QUERY_EVALUATOR_H_

#include "engine/query/ast.h"
#include "engine/query/document.h"
#include "engine/query/value.h"

namespace muster {

// The result may point into all three arguments.  Recurses as deep as the text
// nests.  REQUIRES: `expr` came from the parser.
Value EvaluateExpr(const Expr& expr, const Document& document,
                   Scratch* scratch);

// The value at `path`: undefined if a step is missing.
Value EvaluatePath(const Path& path, const Document& document,
                   Scratch* scratch);

// What a literal is worth.  The result points into it.
Value EvaluateConstant(const Constant& constant);

// `left op right`, for tests and for planners that fold constants.
Value EvaluateCompare(const Compare& compare, const Value& left,
                      const Value& right);

}  // namespace muster

#endif  // ENGINE_QUERY_EVALUATOR_H_
