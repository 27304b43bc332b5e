package spool

import "behalf/mail"

// The bounds of the events that are kept in memory: their number, and the
// octets of their encoded form.
const (
	recentEvents = 1024
	recentBytes  = 1 << 20
)

// recent is an event as it is stored.
type recent struct {
	seq   uint64
	kind  kind
	value []byte
}

// kind is by what followers choose events.
type kind struct {
	typ     mail.EventType
	success bool // somebody asked to be told
}

func kindOf(e *mail.Event) kind { return kind{e.Type, e.Success} }

// recents are the events of the last moments, so that who follows the feed
// closely need not read them from the store. One that is not here may all the
// same be there: what others appended in transactions of theirs is not kept,
// because nobody tells us how those ended.
type recents struct {
	slots [recentEvents]recent // by number
	low   uint64               // below it there are none
	high  uint64               // nor from it on
	bytes int
}

func (rs *recents) slot(seq uint64) *recent { return &rs.slots[seq%recentEvents] }

// keep adds an event that is newer than all others, and drops what is too much.
func (rs *recents) keep(r recent) {
	if rs.high == 0 {
		rs.low = r.seq
	}
	rs.high = r.seq + 1
	for rs.low+recentEvents < rs.high {
		rs.drop(rs.low)
		rs.low++
	}
	*rs.slot(r.seq) = r
	for rs.bytes += len(r.value); rs.bytes > recentBytes; rs.low++ {
		rs.drop(rs.low)
	}
}

func (rs *recents) drop(seq uint64) {
	if s := rs.slot(seq); s.seq == seq {
		rs.bytes -= len(s.value)
		*s = recent{}
	}
}

// get gives an event, if it is kept.
func (rs *recents) get(seq uint64) (recent, bool) {
	s := rs.slot(seq)
	return *s, s.seq == seq && s.value != nil
}
