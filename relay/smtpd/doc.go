// Package smtpd is the SMTP door of submission: ports 587 (STARTTLS) and 465
// (TLS from the first byte), RFC 6409 and RFC 8314.
//
// A [Server] runs one goroutine a session, which reads a command, asks the
// [Intake] where there is something to decide, and answers. The files follow
// the protocol: server.go accepts and ends sessions, session.go runs the
// dialog, auth.go is AUTH, envelope.go MAIL and RCPT, data.go DATA and BDAT;
// wire.go, deadline.go, dots.go, command.go and reply.go hold what they stand on.
//
// Invariants:
//
//   - Only CRLF ends a command and only CRLF "." CRLF ends DATA. A message with
//     a CR, LF or NUL that stands alone is read to its end and refused, so no
//     peer can disagree with us on where it ends (SMTP smuggling).
//   - When reading fails the session is over: nothing that came as data is ever
//     run as a command.
//   - 250 to a message is said only after Commit returned nil.
//   - Whatever the Intake returns reaches the client as its [mail.Failure]; the
//     cause of an error is logged and never told.
//   - Nothing a client does makes memory grow: lines, recipients, sessions and
//     the tables of the throttle are bounded, and bodies stream.
package smtpd
