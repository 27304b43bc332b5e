// Package policy asks the administrator's Rego what to do with a submission.
//
// A policy set is a folder of Rego files and a data file. Each stage of a
// submission has a package of its own with a typed input, see [SenderInput],
// [RecipientInput] and [MessageInput]; its rules return sets of objects, which
// become one [Decision]. Policies are pure: they see input and data and return
// results, and whoever asked acts on them.
//
// These hold always:
//
//   - One decision is made by one set. A changed set is compiled aside and
//     swapped whole; a set that does not compile leaves the last good one in
//     force, which [Engine.Status] tells.
//   - Whatever is not a clean answer is an error, never an accept: a conflict, a
//     panic, the deadline, a result that is misspelt or of the wrong type.
//   - A reference to an input field that the stage does not have, or to data
//     that is not there, is refused when the set is loaded, with file and line.
//   - Only what a set refers to is given to it: [Engine.Needs] tells callers
//     which costly facts nobody asks for, and a stage without rules costs nothing.
package policy
