// Package outcome turns the end of a delivery into what people are told.
//
// It follows the event feed and does two things apart from each other. The
// follower writes, in one transaction with its cursor, a row for each fact that
// somebody asked to hear of; it touches no network and no body. The worker
// drains those rows: it composes one report for all rows of a message that are
// due, and puts it into the spool in the same transaction that deletes the
// rows, so that a report is sent exactly once whatever crashes.
//
// A report never answers the null path, never a report, and goes to nobody the
// tenant has not proved to own.
package outcome
