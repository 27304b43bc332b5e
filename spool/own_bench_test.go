package spool

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	"behalf/mail"
)

// nothing is a store as cheap as can be, so that what is measured is the
// spool's own: a map without locks, sync or order.
type nothing struct {
	rows map[string][]byte
	end  chan struct{}
}

func (n *nothing) Get(key []byte) ([]byte, error) {
	if v, ok := n.rows[string(key)]; ok {
		return v, nil
	}
	return nil, kv.ErrNotFound
}

func (n *nothing) Put(key, value []byte) error {
	n.rows[string(key)] = bytes.Clone(value)
	return nil
}

func (n *nothing) PutNew(key, value []byte) error { return n.Put(key, value) }

func (n *nothing) PutFor(key, value []byte, _ time.Duration) error { return n.Put(key, value) }

func (n *nothing) Delete(key []byte) error {
	delete(n.rows, string(key))
	return nil
}

func (n *nothing) Scan(r kv.Range, fn func(key, value []byte) bool) error {
	if bytes.Compare(r.From, r.Prefix) > 0 && n.rows[string(r.From)] != nil { // the feed
		fn(r.From, n.rows[string(r.From)])
	}
	return nil
}

func (n *nothing) Needs(kv.Durable) {}

func (n *nothing) View(_ context.Context, fn func(kv.Reader) error) error { return fn(n) }

func (n *nothing) Update(_ context.Context, fn func(kv.Writer) error) error { return fn(n) }

func (n *nothing) Go(fn func(kv.Writer) error, done func(error)) { done(fn(n)) }

func (n *nothing) Backup(context.Context, io.Writer) error { return nil }

func (n *nothing) Failed() <-chan struct{} { return n.end }

func (n *nothing) Close() error { return nil }

// noBodies takes bodies and forgets them.
type noBodies struct{ blob.Store }

func (noBodies) Put(_ context.Context, _ blob.Owner, src blob.Source) (blob.Ref, error) {
	return blob.Ref{Segment: 1, Offset: 4711, Size: src.Size()}, nil
}

func (b noBodies) Begin(ctx context.Context, o blob.Owner, src blob.Source) (blob.Ref, blob.Pending, error) {
	ref, err := b.Put(ctx, o, src)
	return ref, nil, err
}

// BenchmarkOwn takes a message through its life without a store.
func BenchmarkOwn(b *testing.B) {
	st := &nothing{rows: map[string][]byte{}, end: make(chan struct{})}
	s, err := Open(b.Context(), st, noBodies{}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	told, gone := sampleAccepted().Accepted, sampleDelivered()
	next := uint64(1)
	b.ReportAllocs()
	b.ResetTimer()
	defer reportCPU(b)()
	for range b.N {
		m, rs := benchMessage(s)
		d := s.Draft()
		d.Write([]byte("short"))
		got, err := s.Put(b.Context(), d, m, rs, told, nil)
		if err != nil {
			b.Fatal(err)
		}
		r := got.Recipients[0]
		r.State = mail.Delivered
		s.Settle(Outcome{ID: m.ID, Changes: []Change{{Recipient: r}}, Events: []mail.Event{*gone}}, func(err error) {
			if err != nil {
				b.Fatal(err)
			}
		})
		got.Release()
		for {
			_, to, err := s.Events(b.Context(), next, 256)
			if err != nil {
				b.Fatal(err)
			}
			if to == next {
				break
			}
			next = to
		}
		clear(st.rows)
	}
}
