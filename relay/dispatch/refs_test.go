package dispatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// A line of references keeps its order whichever end is used, through any
// growth, and keeps no memory when it is empty.
func TestRefs(t *testing.T) {
	var l refs
	var want []int
	rng := rand.New(rand.NewPCG(1, 2))
	id := func(n int) mail.ID { return mail.ID{byte(n >> 8), byte(n)} }
	for n := range 20_000 {
		switch up := n%4000 < 2500; {
		case up && rng.IntN(8) == 0:
			l.pushFront(ref{id: id(n)})
			want = slices.Insert(want, 0, n)
		case up && rng.IntN(4) > 0:
			l.pushBack(ref{id: id(n)})
			want = append(want, n)
		case len(want) > 0:
			if got := l.popFront().id; got != id(want[0]) {
				t.Fatalf("step %d: took %s, want %s", n, got, id(want[0]))
			}
			want = want[1:]
		}
		if l.len() != len(want) {
			t.Fatalf("step %d: %d references, want %d", n, l.len(), len(want))
		}
		if k := len(want); k > 0 && (l.at(k-1).id != id(want[k-1]) || !l.has(id(want[k/2]), 0) || l.has(id(want[0]), 1)) {
			t.Fatalf("step %d: the line is not what was put there", n)
		}
	}
	for l.len() > 0 {
		l.popFront()
	}
	if l.ring != nil {
		t.Errorf("an empty line keeps room for %d", len(l.ring))
	}
}

// reads is a spool that counts what is read of it again.
type reads struct {
	store
	loads, pages atomic.Int64
}

func (r *reads) Load(ctx context.Context, id mail.ID) (*spool.Stored, error) {
	r.loads.Add(1)
	return r.store.Load(ctx, id)
}

func (r *reads) Due(ctx context.Context, q spool.Queue, after *spool.Due, limit int) ([]spool.Due, error) {
	r.pages.Add(1)
	return r.store.Due(ctx, q, after, limit)
}

// Acceptance may get hundreds of messages ahead of delivery in one queue: they
// are tried in order, from memory, as long as their bound lasts. Beyond it they
// are read again, and nothing is lost.
func TestAheadOfDelivery(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		ahead int
		reads bool
	}{
		{"within the bound", Options{WindowMax: 20}, 600, false},
		{"more than a head may hold", Options{}, youngSize + 200, true},
		{"more than half of the memory", Options{Young: 1 << 20}, 600, true},
		{"more than half of the references", Options{Heads: 256}, 600, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.o)
				sp := &reads{store: w.sp}
				w.d.sp = sp
				w.run()
				defer w.stop()
				synctest.Wait() // the queues that were there at the start are read
				w.way(platform, takes(50*time.Millisecond))
				var ids []mail.ID
				for i := range c.ahead {
					ids = append(ids, w.send(1, ups(platform), fmt.Sprintf("u%d@b.example", i)))
					if i%20 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				time.Sleep(time.Minute)
				tries := w.triedBy(platform)
				if len(tries) != len(ids) {
					t.Fatalf("%d attempts at %d messages", len(tries), len(ids))
				}
				if read := sp.loads.Load()+sp.pages.Load() > 0; read != c.reads {
					t.Errorf("%d messages and %d pages of the due index were read", sp.loads.Load(), sp.pages.Load())
				}
				if c.reads {
					return
				}
				place := map[mail.ID]int{}
				for i, id := range ids {
					place[id] = i
				}
				for i := range tries {
					if p := place[tries[i].who.id]; p < i-20 || p > i+20 {
						t.Errorf("message %d was attempt %d; 20 go at once", p, i)
					}
				}
			})
		})
	}
}
