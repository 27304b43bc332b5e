package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"behalf/internal/kv"
	"behalf/mail"
)

// wide makes a message of n recipients, each with what a client may say of it
// at length.
func wide(s *Spool, n, orcpt int) (*mail.Message, []mail.Recipient) {
	to := make([]string, n)
	for i := range to {
		to[i] = fmt.Sprintf("u%d@b.example", i)
	}
	m, rs := message(s, 1, to...)
	for i := range rs {
		rs[i].ORcpt = "rfc822;" + strings.Repeat("x", orcpt)
	}
	return m, rs
}

// An outcome of an event alone rewrites a row of 64 recipients: many of them
// together are more than one transaction takes.
func TestSettleManyLarge(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	var os []Outcome
	for range groupOutcomes {
		m, rs := wide(s, chunkSize, 500)
		accept(t, s, m, rs)
		os = append(os, Outcome{ID: m.ID, Events: []mail.Event{{At: now(), Type: mail.EventDelayed}}})
	}
	gone := Outcome{ID: s.NewID(1, now()), Events: []mail.Event{{At: now(), Type: mail.EventDelayed}}}
	if err := s.SettleNow(t.Context(), append(os, gone)); !errors.Is(err, ErrNotFound) || errors.Is(err, kv.ErrTooBig) {
		t.Fatal(err)
	}
	for _, o := range os {
		es, err := s.Timeline(t.Context(), o.ID)
		if err != nil || types(es) != " accepted delayed" {
			t.Fatalf("%s: %s, %v", o.ID, types(es), err)
		}
	}
}

// One outcome of many rows is written row by row if need be, in either way of
// settling, and each event with the recipients it is about.
func TestSettleOneLarge(t *testing.T) {
	ways := map[string]func(s *Spool, o Outcome) error{
		"now": func(s *Spool, o Outcome) error { return s.SettleNow(t.Context(), []Outcome{o}) },
		"later": func(s *Spool, o Outcome) error {
			done := make(chan error, 1)
			s.Settle(o, func(err error) { done <- err })
			return <-done
		},
	}
	for name, settle := range ways {
		t.Run(name, func(t *testing.T) {
			s := openSpool(t, memStore(t), newBodies(), Options{})
			m, rs := wide(s, 20*chunkSize+1, 100)
			st := accept(t, s, m, rs)
			o := Outcome{ID: m.ID}
			at := now()
			var even, odd []int
			for i, r := range st.Recipients {
				r.Tries, r.Last = 1, &mail.Failure{Code: 451, Text: "later", Reply: strings.Repeat("y", 2000)}
				o.Changes = append(o.Changes, Change{i, r})
				if i%2 == 0 {
					even = append(even, i)
				} else {
					odd = append(odd, i)
				}
			}
			o.Events = []mail.Event{{At: at, Type: mail.EventDeferred, Recipients: even}, {At: at, Type: mail.EventFailover, Recipients: odd}}
			if err := settle(s, o); err != nil {
				t.Fatal(err)
			}
			for i, r := range load(t, s, m.ID).Recipients {
				if r.Tries != 1 {
					t.Fatalf("recipient %d was not written", i)
				}
			}
			told := map[int]int{}
			es, err := s.Timeline(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es[1:] {
				for _, i := range e.Recipients {
					told[i]++
					if (e.Type == mail.EventDeferred) != (i%2 == 0) {
						t.Errorf("recipient %d: %s", i, e.Type)
					}
				}
			}
			if len(told) != len(rs) {
				t.Errorf("the events tell of %d recipients, want %d", len(told), len(rs))
			}
			for i, n := range told {
				if n != 1 {
					t.Errorf("recipient %d is told of %d times", i, n)
				}
			}
			consistent(t, s)
		})
	}
}

// What does not fit however it is cut is told of and stands in nobody's way.
func TestSettleTooLarge(t *testing.T) {
	s := openSpool(t, memStore(t), newBodies(), Options{})
	m, rs := message(s, 1, "a@b.example")
	large := accept(t, s, m, rs)
	m, rs = message(s, 1, "a@b.example")
	small := accept(t, s, m, rs)
	o := delivered(large, 0)
	o.Changes[0].Recipient.Reason = strings.Repeat("x", kv.MaxValue)
	err := s.SettleNow(t.Context(), []Outcome{o, delivered(small, 0)})
	var tl *TooLargeError
	if !errors.As(err, &tl) || len(tl.IDs) != 1 || tl.IDs[0] != large.Message.ID {
		t.Errorf("got %v", err)
	}
	done := make(chan error, 1)
	s.Settle(o, func(err error) { done <- err })
	if err := <-done; !errors.As(err, &tl) {
		t.Errorf("later: %v", err)
	}
	if r := load(t, s, large.Message.ID).Recipients[0]; r.State != mail.Queued {
		t.Errorf("what is too large became %s", r.State)
	}
	if r := load(t, s, small.Message.ID).Recipients[0]; r.State != mail.Delivered {
		t.Errorf("what came behind it is %s", r.State)
	}
}

func TestCut(t *testing.T) {
	o := Outcome{}
	for _, i := range []int{130, 3, 5, 70, 1} {
		o.Changes = append(o.Changes, Change{Index: i})
	}
	o.Events = []mail.Event{{Type: mail.EventDeferred, Recipients: []int{5, 70}}, {Type: mail.EventHeld}, {Type: mail.EventReported, Recipients: []int{9}}}
	a, b, ok := o.cut()
	got := fmt.Sprint(ok, indexes(a.Changes), indexes(b.Changes))
	for _, e := range a.Events {
		got += fmt.Sprint(" a ", e.Type, e.Recipients)
	}
	for _, e := range b.Events {
		got += fmt.Sprint(" b ", e.Type, e.Recipients)
	}
	want := "true [1 3 5] [70 130] a message.deferred[5] a message.held[1 3 5] a message.reported[9] b message.deferred[70] b message.held[70 130]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, _, ok := (Outcome{Changes: o.Changes[:1]}).cut(); ok {
		t.Error("one change was cut")
	}
}

// Retention drops large messages in as many transactions as they take, and one
// that it cannot drop stops it for no other.
func TestRetentionOfLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memStore(t)
		var log bytes.Buffer
		b := newBodies()
		s := openSpool(t, st, b, Options{KeepBodies: time.Hour, KeepEvents: 2 * time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil))})
		var ids []mail.ID
		for range groupBodies {
			m, rs := wide(s, chunkSize, 500)
			for i := range rs {
				rs[i].State = mail.Discarded
			}
			accept(t, s, m, rs)
			ids = append(ids, m.ID)
		}
		bad := ids[len(ids)/2]
		if err := st.Update(t.Context(), func(w kv.Writer) error { return w.Put(keyRecipients(bad, 0), []byte("damaged")) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Minute)
		if err := s.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := b.len(); n != 1 || !strings.Contains(log.String(), bad.String()) {
			t.Errorf("%d bodies are left, want that of the damaged message; log: %s", n, log.String())
		}
		time.Sleep(time.Hour)
		if err := s.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.Stats().Messages; n != 1 {
			t.Errorf("%d messages are left, want the damaged one", n)
		}
	})
}
