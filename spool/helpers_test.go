package spool

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"behalf/internal/blob"
	"behalf/internal/kv"
	kvbadger "behalf/internal/kv/badger"
	kvmem "behalf/internal/kv/mem"
	"behalf/mail"
)

// bodies is a blob.Store in memory: it survives the power cuts of a test, and
// its Reclaim moves whatever lives.
type bodies struct {
	mu    sync.Mutex
	last  int64
	at    map[blob.Ref][]byte
	owner map[blob.Ref]blob.Owner
}

func newBodies() *bodies {
	return &bodies{at: map[blob.Ref][]byte{}, owner: map[blob.Ref]blob.Owner{}}
}

func (b *bodies) Put(_ context.Context, owner blob.Owner, src blob.Source) (blob.Ref, error) {
	var buf bytes.Buffer
	if _, err := src.WriteTo(&buf); err != nil {
		return blob.Ref{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	ref := blob.Ref{Segment: 1, Offset: b.last, Size: src.Size()}
	b.at[ref], b.owner[ref] = buf.Bytes(), owner
	return ref, nil
}

func (b *bodies) Begin(ctx context.Context, owner blob.Owner, src blob.Source) (blob.Ref, blob.Pending, error) {
	ref, err := b.Put(ctx, owner, src)
	return ref, nil, err
}

func (b *bodies) Open(_ context.Context, _ blob.Owner, ref blob.Ref) (blob.Body, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.at[ref]
	if !ok {
		return nil, blob.ErrCorrupt
	}
	return youngBody(v), nil
}

func (b *bodies) Delete(_ blob.Owner, ref blob.Ref) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, ref)
	delete(b.owner, ref)
	return nil
}

func (b *bodies) Reclaim(_ context.Context, alive func(blob.Owner, blob.Ref) (bool, error), move func(blob.Owner, blob.Ref, blob.Ref) (bool, error)) error {
	b.mu.Lock()
	all := map[blob.Ref]blob.Owner{}
	for r, o := range b.owner {
		all[r] = o
	}
	b.mu.Unlock()
	for r, o := range all {
		live, err := alive(o, r)
		if err != nil {
			return err
		}
		if live {
			b.mu.Lock()
			b.last++
			to := blob.Ref{Segment: 2, Offset: b.last, Size: r.Size}
			b.at[to], b.owner[to] = b.at[r], o
			b.mu.Unlock()
			if ok, err := move(o, r, to); err != nil {
				return err
			} else if !ok {
				b.Delete(o, to)
			}
		}
		b.Delete(o, r)
	}
	return nil
}

func (b *bodies) Close() error { return nil }

func (b *bodies) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.at)
}

// engines are the stores that every test of the spool runs on.
func engines(t *testing.T, f func(t *testing.T, st kv.Store)) {
	t.Run("mem", func(t *testing.T) {
		st := kvmem.New(kvmem.Options{})
		defer st.Close()
		f(t, st)
	})
	t.Run("badger", func(t *testing.T) {
		st, err := kvbadger.Open(t.TempDir(), kvbadger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		f(t, st)
	})
}

func openSpool(t testing.TB, st kv.Store, b blob.Store, o Options) *Spool {
	t.Helper()
	s, err := Open(t.Context(), st, b, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// now is the present as the spool keeps it.
func now() time.Time { return time.Now().Truncate(time.Millisecond).UTC() }

// later is after anything that a test accepts.
var later = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)

// message makes a message of a tenant for the given recipients.
func message(s *Spool, tenant mail.TenantID, to ...string) (*mail.Message, []mail.Recipient) {
	at := now()
	m := &mail.Message{
		ID: s.NewID(tenant, at), Tenant: tenant, Door: mail.DoorSMTP, Stream: "transactional",
		From: mail.Address{Local: "a", Domain: "acme.example"}, MessageID: "<x@acme.example>",
		Accepted: at, Expires: at.Add(96 * time.Hour),
		Wishes: []mail.Wish{{Upstream: mail.UpstreamMX, Methods: []mail.Method{mail.MethodDomain}}},
	}
	var rs []mail.Recipient
	for _, a := range to {
		addr, err := mail.ParseAddress(a)
		if err != nil {
			panic(err)
		}
		rs = append(rs, mail.Recipient{Address: addr})
	}
	return m, rs
}

func draft(t testing.TB, s *Spool, body string) *Draft {
	t.Helper()
	d := s.Draft()
	if _, err := d.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	return d
}

// accept puts a message and fails the test if it is not taken.
func accept(t testing.TB, s *Spool, m *mail.Message, rs []mail.Recipient) *Stored {
	t.Helper()
	st, err := s.Put(t.Context(), draft(t, s, "body of "+m.ID.String()), m, rs, &mail.Acceptance{Client: "192.0.2.1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// settle waits for one outcome.
func settle(t testing.TB, s *Spool, o Outcome) {
	t.Helper()
	if err := s.SettleNow(t.Context(), []Outcome{o}); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, s *Spool, id mail.ID) *Stored {
	t.Helper()
	st, err := s.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func readBody(t testing.TB, s *Spool, st *Stored) string {
	t.Helper()
	b, err := s.OpenBody(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	buf := make([]byte, b.Size())
	if _, err := b.ReadAt(buf, 0); err != nil && len(buf) > 0 && err.Error() != "EOF" {
		t.Fatal(err)
	}
	return string(buf)
}

// delivered is the outcome that ends recipient i of st.
func delivered(st *Stored, i int) Outcome {
	at := now()
	r := st.Recipients[i].After(mail.Attempt{At: at}, st.Message, mail.DefaultSchedule())
	return Outcome{ID: st.Message.ID, Changes: []Change{{i, r}},
		Events: []mail.Event{{At: at, Type: mail.EventDelivered, Recipients: []int{i}}}}
}

// deferred is the outcome of a temporary failure of recipient i.
func deferred(st *Stored, i int, next time.Time) Outcome {
	r := st.Recipients[i]
	r.Tries, r.Next, r.Last = r.Tries+1, next, &mail.Failure{Code: 451, Text: "later"}
	return Outcome{ID: st.Message.ID, Changes: []Change{{i, r}},
		Events: []mail.Event{{At: now(), Type: mail.EventDeferred, Recipients: []int{i}, Next: next}}}
}

func allDue(t testing.TB, s *Spool) []Due {
	t.Helper()
	var out []Due
	seen := map[Queue]bool{}
	err := s.Queues(t.Context(), later, func(q Queue, _ time.Time, _ int) bool {
		if !seen[q] {
			seen[q] = true
			ds, err := s.Due(t.Context(), q, nil, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, ds...)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func types(es []mail.Event) string {
	var out string
	for _, e := range es {
		out += fmt.Sprintf(" %s", e.Type[len("message."):])
	}
	return out
}
