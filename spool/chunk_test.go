package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"behalf/internal/kv"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

// However often a row is changed, in whatever places, what is stored is the
// row encoded anew, and what is due is what its recipients say.
func TestRowsArePatched(t *testing.T) {
	st := kvmem.New(kvmem.Options{})
	defer st.Close()
	s := openSpool(t, st, newBodies(), Options{})
	var to []string
	for i := range 2*chunkSize + 9 {
		to = append(to, fmt.Sprintf("user%d@d%d.example", i, i%20))
	}
	m, rs := message(s, 1, to...)
	accept(t, s, m, rs)
	rnd := rand.New(rand.NewPCG(1, 2))
	at := now()
	for range 400 {
		o := Outcome{ID: m.ID}
		for range 1 + rnd.IntN(5) { // now and then the same one twice
			i := rnd.IntN(len(rs))
			r := rs[i]
			r.Tries++
			r.Next = at.Add(time.Duration(rnd.IntN(3)) * time.Hour)
			r.Reason = strings.Repeat("x", rnd.IntN(300)*rnd.IntN(2))
			if r.State = mail.Queued; rnd.IntN(10) == 0 {
				r.State = mail.Held
			}
			rs[i] = r
			o.Changes = append(o.Changes, Change{Index: i, Recipient: r})
		}
		if rnd.IntN(5) == 0 { // one that is taken back leaves no trace
			spoil(t, s, o)
		}
		if err := s.SettleNow(t.Context(), []Outcome{o}); err != nil {
			t.Fatal(err)
		}
	}
	if got := load(t, s, m.ID); !reflect.DeepEqual(got.Recipients, rs) {
		t.Error("the recipients differ")
	}
	want := map[string]bool{}
	err := st.View(t.Context(), func(r kv.Reader) error {
		for k := 0; k*chunkSize < len(rs); k++ {
			row, err := r.Get(keyRecipients(m.ID, k))
			if err != nil {
				return err
			}
			if k == 0 {
				if _, row, err = decodeHead(row); err != nil {
					return err
				}
			}
			all := rs[k*chunkSize : min(len(rs), (k+1)*chunkSize)]
			if !bytes.Equal(row, new(record).appendRecipients(nil, all)) {
				t.Errorf("row %d differs", k)
			}
			for _, d := range dueOf(all, nil) {
				want[string(keyDue(m.ID, d.lane, d.next, k))] = true
			}
		}
		return r.Scan(kv.Range{Prefix: s.p.table(tableDue, 0), KeysOnly: true}, func(k, _ []byte) bool {
			if !want[string(k)] {
				t.Errorf("due too much: %x", k)
			}
			delete(want, string(k))
			return true
		})
	})
	if err != nil || len(want) > 0 {
		t.Errorf("%d are not due; %v", len(want), err)
	}
}

// spoil settles an outcome with other lanes and lets the transaction fail.
func spoil(t *testing.T, s *Spool, o Outcome) {
	t.Helper()
	o.Changes = slices.Clone(o.Changes)
	for i := range o.Changes {
		o.Changes[i].Recipient.Lane = "spoilt||x"
	}
	p := settling{whole: o}
	err := s.prepareOutcome(&p)
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	err = s.update(t.Context(), func(t *tx) error { return errors.Join(t.settle(&p), no) })
	if !errors.Is(err, no) {
		t.Fatal(err)
	}
}

// The rows that are kept are bounded.
func TestKeptRowsAreBounded(t *testing.T) {
	var cs chunks
	c := chunk{rs: make([]mail.Recipient, chunkSize), row: make([]byte, 2*keptRow+1)}
	if cs.give(&c); cs.take(c.id, 0) != nil {
		t.Error("a large one is kept")
	}
	for k := range 3 * keptChunks {
		cs.give(&chunk{k: k, rs: c.rs, row: []byte{1}})
	}
	n := 0
	for k := range 3 * keptChunks {
		if cs.take(c.id, k) != nil {
			n++
		}
	}
	if n != keptChunks {
		t.Errorf("%d are kept", n)
	}
}
