package spool

import (
	"strings"
	"testing"
	"time"

	"behalf/mail"
)

func TestFresh(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(ms int) mail.ID { return mail.NewID(0, 7, start.Add(time.Duration(ms)*time.Millisecond)) }
	f := fresh{floor: start}
	if f.first(at(-1)) || f.first(at(0)) {
		t.Error("an id of the time before the start is known to be new")
	}
	known := at(1)
	if !f.first(known) {
		t.Error("an id of after the start is not known to be new")
	}
	if f.first(known) {
		t.Error("an id that was put is taken for a new one")
	}
	for i := range freshIDs {
		f.first(at(2 + i))
	}
	if f.first(known) {
		t.Error("an id that was put a generation ago is taken for a new one")
	}
	for i := range 2 * freshIDs {
		f.first(at(10_000 + i))
	}
	if f.first(known) {
		t.Error("an id of a time that is forgotten is taken for a new one")
	}
	if !f.first(at(50_000)) {
		t.Error("a new id is not known to be one after generations went")
	}
	if n := len(f.now.ids) + len(f.last.ids); n > 2*freshIDs {
		t.Errorf("%d ids are remembered, more than %d", n, 2*freshIDs)
	}
}

// What comes late, with an id of a time that is forgotten meanwhile, is never
// taken for new although it may be: the store is asked.
func TestFreshOutOfOrder(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := fresh{floor: start}
	put := map[mail.ID]bool{}
	for i := range 5 * freshIDs {
		ms := i / 4
		if i%7 == 0 {
			ms = max(ms-3000, 1)
		}
		id := mail.NewID(0, 7, start.Add(time.Duration(ms)*time.Millisecond))
		f.first(id)
		put[id] = true
	}
	for id := range put {
		if f.first(id) {
			t.Fatalf("%s was put and is taken for new", id)
		}
	}
}

// An id that a message has is refused, whoever put it and whatever the clock says
// since.
func TestIDsAreUsedOnce(t *testing.T) {
	dir := t.TempDir()
	again := func(s *Spool, m *mail.Message, rs []mail.Recipient) {
		t.Helper()
		twice := *m
		if _, err := s.Put(t.Context(), draft(t, s, "another"), &twice, rs, nil, nil); err == nil || !strings.Contains(err.Error(), "exists") {
			t.Errorf("an id that is taken gives %v", err)
		}
	}
	s := openDisk(t, dir, Options{})
	now, rs := message(s.Spool, 1, "a@x.example")
	accept(t, s.Spool, now, rs)
	ahead, rs := message(s.Spool, 1, "a@x.example") // by a clock that is set back later
	ahead.Accepted = ahead.Accepted.Add(time.Hour)
	ahead.ID = s.NewID(1, ahead.Accepted)
	accept(t, s.Spool, ahead, rs)
	back, rs := message(s.Spool, 1, "a@x.example") // its event is the last
	accept(t, s.Spool, back, rs)
	again(s.Spool, now, rs)
	again(s.Spool, ahead, rs)
	s.close(t)

	s = openDisk(t, dir, Options{})
	defer s.close(t)
	again(s.Spool, now, rs)
	again(s.Spool, ahead, rs)
	again(s.Spool, back, rs)
	if got := readBody(t, s.Spool, load(t, s.Spool, ahead.ID)); got != "body of "+ahead.ID.String() {
		t.Errorf("its body is %q", got)
	}
}

func TestCountsOfBefore(t *testing.T) {
	c := counts{Tally: tally{atHeld: 3}, Messages: 7, Unfinished: 2, Youngest: 1_800_000_000_000}
	row := c.append(nil)
	if got, err := decodeCounts(row); got != c || err != nil {
		t.Errorf("%+v comes back as %+v, %v", c, got, err)
	}
	c.Youngest = 0
	if got, err := decodeCounts(row[:len(row)-8]); got != c || err != nil {
		t.Errorf("a row without the youngest id is read as %+v, %v; want %+v", got, err, c)
	}
	if _, err := decodeCounts(row[:len(row)-1]); err == nil {
		t.Error("a row that ends early is read")
	}
}
