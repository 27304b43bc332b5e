// Package relay takes a message from a door to the spool, and says at each
// attempt how it leaves again.
//
// An [Intake] knows who a client is and for whom it may act (intake.go), and
// gives it a [Transaction]: MAIL, each RCPT, the octets, then Commit
// (transaction.go). HTTP brings a whole message at once (submit.go), and our
// own bounces come without a client (system.go). Commit is accept.go, to be
// read first; it takes these steps:
//
//	hints.go        what the client asks for in Behalf-… fields
//	idempotency.go  was this message taken before?
//	suppressed.go   who must not be mailed in this stream
//	facts.go        what the directory and the DNS say of the From
//	decide.go       the policy's word at each stage
//	identity.go     … and what it is told of the From
//	limits.go       what its limits reserve
//	fate.go         what becomes of the message and of each recipient
//	front.go        the fields in front, and those that go
//
// While delivery is behind, arrivals.go says whose messages wait a moment.
//
// A [Planner] turns a wish of a message into a hop (plan.go), with the keys,
// records and settings of that moment, and renders the message for it. ways.go is
// what follows of a tenant's view alone, and goes with it.
// returnpath.go makes the tokens that bring a bounce or a click home.
//
// What holds:
//
//   - Nothing is accepted before spool.Put returned nil, and whatever was
//     reserved until then is given back if it does not.
//   - A tenant is known before anything is asked or kept; nobody acts for a
//     tenant that its credential does not name at that moment.
//   - A refusal of one recipient leaves the others; what cannot be decided is
//     451, never an acceptance.
//   - A policy chooses among the ways and methods that the tenant has and that
//     hold; it cannot name others.
//   - The client's octets are kept as they came. All changes are edits, made
//     when the message is rendered.
package relay
