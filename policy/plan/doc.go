// Package plan runs Rego by OPA's intermediate representation instead of by
// its evaluator.
//
// OPA's compiler can turn rules into a plan: small statements over numbered
// variables, in blocks that end where a statement is undefined. [Load] asks it
// for the plan of some rules and translates that to a compact form: names are
// indices, constants are built, calls know their function. [Program.Eval] runs
// it. Values are OPA's terms, compared by OPA's comparison, and what a built-in
// function does is done by OPA's own; only the order of the work is ours.
//
// What holds:
//   - An evaluation ends: it is bounded in statements, in what it builds, and
//     by the clock. The first two bounds do not depend on the machine.
//   - A failed built-in function or a conflict is never lost: evaluation goes on
//     as if the value were undefined, as OPA's does, and ends in a *[Fault].
//     OPA may pass over the same fault, because it looks at fewer rules; whoever
//     asks must then ask OPA.
//   - Terms that an evaluation was given, and constants, are never changed.
//   - A [Program] is immutable and may be used by many goroutines.
package plan
