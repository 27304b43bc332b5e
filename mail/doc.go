// Package mail is the vocabulary of the relay: addresses, messages, recipients
// and their states, failures and events, with the pure rules that hold between
// them. It does no I/O and imports nothing of the rest of the module, so that
// reading it gives the whole system.
//
// Three invariants carry everything else:
//
//   - A [Message] is immutable once accepted, and so are the bytes its client
//     gave. What is sent is computed from them at each attempt.
//   - Only a [Recipient] changes, and only by [Recipient.After] or by a named
//     operation (hold, release, cancel, expire); every one ends in a final
//     [State] with a reason.
//   - A [Failure] is the only error that carries a verdict. Whatever is not one
//     counts as our own temporary trouble, never as the recipient's.
package mail
