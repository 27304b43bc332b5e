// Package journal keeps what the policy was asked and what it answered, so that
// a changed set can be tried on recorded traffic.
//
// One [Entry] is one transaction, or a part of a large one. Entries gather in a
// block, which is compressed, sealed with the platform's key and appended to a
// segment file. These hold always:
//
//   - Recording never delays or refuses mail. It is not synced: a crash loses
//     about a second of it. What cannot be recorded is counted and logged.
//   - Memory and disk are bounded. The oldest segments go first, when they are
//     older than the retention or over the size.
//   - Nothing readable is on disk but times, sizes and counts.
//   - A damaged, torn or foreign block is skipped and told of; those around it
//     are read.
package journal
