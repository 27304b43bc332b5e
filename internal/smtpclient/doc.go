// Package smtpclient speaks SMTP to the next hop. A [Client] is one session; it
// sends the transactions of a job pipelined, each burst in one write, and says
// for every recipient what became of it. Whatever goes wrong leaves the package
// as a *mail.Failure, and verdict.go is the only place where replies are judged.
//
// What a peer sends is bounded in length and in time, and never trusted: text
// is stripped of control characters, bytes that came before a TLS handshake are
// thrown away, and a session that broke the protocol is closed.
//
// A recipient counts as taken only when the final dot was answered with 2xx. A
// dot without an answer is told apart (mail.StageFinal) from a session that
// ended before it ([Answer].Lost), because only the latter may be tried again
// without risking a duplicate.
package smtpclient
