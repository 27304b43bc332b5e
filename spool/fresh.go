package spool

import (
	"sync"
	"time"

	"behalf/mail"
)

// freshIDs is how many ids fresh remembers at least, and half of the most.
const freshIDs = 8192

// fresh knows of most new ids that no message has them, so that the store need
// not be asked: an id that is younger than floor was only ever put by this
// process, and is remembered. An id holds four octets at random; alone they would
// meet in the same millisecond of the same tenant now and then.
//
// No message of before the start is younger than floor, which is the time of the
// youngest that there ever was if the clock was set back since: counts tell it.
type fresh struct {
	mu    sync.Mutex
	floor time.Time
	now   generation // that is filled
	last  generation // the full one before
}

// generation is a set of ids.
type generation struct {
	ids    map[mail.ID]struct{}
	newest time.Time
}

// first notes an id and reports whether no message can have it; false: one may.
func (f *fresh) first(id mail.ID) bool {
	at := id.Time()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !at.After(f.floor) {
		return false
	}
	if _, there := f.now.ids[id]; there {
		return false
	}
	if _, there := f.last.ids[id]; there {
		return false
	}
	if len(f.now.ids) >= freshIDs {
		f.turn()
	}
	if f.now.ids == nil {
		f.now.ids = make(map[mail.ID]struct{})
	}
	f.now.ids[id] = struct{}{}
	if at.After(f.now.newest) {
		f.now.newest = at
	}
	return at.After(f.floor)
}

// turn forgets the older generation: from now on the ids of its time, and before,
// are not known any more.
func (f *fresh) turn() {
	if f.last.newest.After(f.floor) {
		f.floor = f.last.newest
	}
	clear(f.last.ids)
	f.now, f.last = generation{ids: f.last.ids}, f.now
}
