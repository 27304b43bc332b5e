// Package relay takes a message from the doors to the spool, and says at each
// attempt how it goes out.
//
// In the order of one message:
//
//   - A door (relay/smtpd, web/api) authenticates its client by Intake.Login and
//     opens a Transaction; HTTP does it all in one by Intake.Accept.
//   - intake.go says who acts for whom; transaction.go takes recipients and
//     bytes, and gives back what was reserved when nothing comes of it.
//   - accept.go is a page of steps: header and hints (hints.go), an earlier
//     submission with the same key (idempotency.go), the facts of the message,
//     suppression (suppressed.go), what DNS and directory say (facts.go), policy
//     (decide.go, identity.go) with its limits (limits.go, fate.go), the choice
//     of upstreams and methods, and then spool.Put. That is the instant of
//     acceptance: only after it does a door say 250 or 202.
//   - plan.go resolves a wish to a hop at each attempt and renders the message
//     for it; returnpath.go makes the tokens by which bounces and clicks find
//     their way back.
//   - system.go submits mail of the platform's own; unsubscribe.go takes clicks.
//
// Three invariants: the stored bytes are those the client gave; no credential
// acts for a tenant it was not given, whatever it names; and nothing is accepted
// that the policy could not be asked about.
package relay
