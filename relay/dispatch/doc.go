// Package dispatch takes messages from the spool to the upstreams: it says when
// each recipient is tried, makes the attempt, and settles what became of it.
//
// One goroutine, the owner, holds the whole schedule: queues, sites, tenants and
// what is under way. It does no I/O and takes no lock; workers, the loader, the
// sweeper and operations talk to it by channels. Facts live in the spool, the
// schedule only in memory, rebuilt at start from the due index.
//
// The words:
//
//   - a queue is a lane of one tenant. Its head is at most 64 references in
//     memory, or 1,024 to messages that were just offered and are in memory
//     anyhow; the rest stays in the due index and is read behind a cursor.
//   - a site is where the connections of a lane end: an MX site, a connection,
//     the platform's smart host. Lanes and tenants share its [Window] and [Pace].
//   - a job is one attempt at the recipients of one message that are due
//     together in one queue.
//
// What holds at all times:
//
//   - A recipient is in at most one job, and a second attempt never starts
//     before the first is settled. The window slot is free only then.
//   - Every live entry of the due index is in a head, in a job, or not before
//     its queue's cursor, with a wake or a load to come.
//   - All changes of recipients after accept go through here, operations and
//     expiry included; the outcome of an attempt beats what came later.
//   - An attempt that only waits for a peer keeps no worker from others.
//   - A dead or suspended site costs others nothing: its queues leave the ring,
//     and what can go another way does so without waiting for it.
package dispatch
