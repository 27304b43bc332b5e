package dispatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"behalf/mail"
	"behalf/spool"
)

// TestRandom lets tenants, operators and ways out do what they like, with
// restarts in between, and then checks that every recipient ended in exactly
// one final state, by the rules. That no recipient is tried twice at once is
// checked at each attempt.
func TestRandom(t *testing.T) {
	seeds := 3
	if n, err := strconv.Atoi(os.Getenv("DISPATCH_SEEDS")); err == nil {
		seeds = n // for a long look
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { random(t, uint64(seed)) })
		})
	}
}

// chaos is one run of TestRandom.
type chaos struct {
	*world
	dice sync.Mutex
	r    *rand.Rand
	ids  []mail.ID
}

// roll gives a number from 0 to n-1.
func (c *chaos) roll(n int) int {
	c.dice.Lock()
	defer c.dice.Unlock()
	return c.r.IntN(n)
}

func random(t *testing.T, seed uint64) {
	c := &chaos{r: rand.New(rand.NewPCG(seed, 1))}
	c.world = newWorld(t, Options{Workers: 1 + c.roll(20), Heads: 1 + c.roll(200), Young: int64(c.roll(200_000)), WindowMax: 1 + c.roll(10)})
	c.sites = map[string]string{"a.example": "one", "b.example": "one"}
	for _, u := range ups(office, mx, platform) {
		c.way(u, c.whim)
	}
	c.run()
	for range 80 {
		c.act()
		time.Sleep(time.Duration(c.roll(20_000)) * time.Millisecond)
	}
	for _, u := range ups(office, mx, platform) {
		c.way(u, fine)
	}
	c.d.Release(context.Background(), Selection{Filter: &spool.Filter{State: mail.Held}}, alice)
	time.Sleep(3 * time.Hour)
	c.verify()
	c.stop()
}

// whim is a way out that does anything.
func (c *chaos) whim(ctx context.Context, j *job1, to target) result {
	n, wait := c.roll(100), time.Duration(c.roll(20_000))*time.Millisecond
	if n%3 == 0 {
		takes(wait)(ctx, j, to)
	}
	for i, f := range []func() *mail.Failure{greylisted, unreach, unreach, noMailbox, noAuth, mailboxFull, unresolved} {
		if n < (i+1)*8 {
			return result{Failure: f()}
		}
	}
	if n == 99 {
		panic("a bug")
	}
	return fine(ctx, j, to)
}

func (c *chaos) act() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	some := func() Selection {
		var sel Selection
		for range c.roll(10) {
			sel.IDs = append(sel.IDs, c.ids[c.roll(len(c.ids))])
		}
		return sel
	}
	what := c.roll(20)
	if len(c.ids) == 0 {
		what = 19
	}
	switch what {
	case 0:
		c.d.Hold(ctx, some(), alice)
	case 1:
		c.d.Release(ctx, some(), alice)
	case 2:
		c.d.Cancel(ctx, some(), alice)
	case 3:
		c.d.Retry(ctx, some(), alice)
	case 4:
		tenant := mail.TenantID(c.roll(4))
		op := alice
		op.Until = time.Now().Add(time.Minute)
		c.d.Hold(ctx, Selection{Filter: &spool.Filter{Tenant: &tenant}}, op)
	case 5:
		c.d.Retry(ctx, Selection{Filter: &spool.Filter{Domain: "a.example"}}, alice)
	case 6:
		c.restart()
	default:
		for range 1 + c.roll(10) {
			c.submit()
		}
	}
}

func (c *chaos) submit() {
	var to []string
	for range 1 + c.roll(5)*c.roll(30) {
		to = append(to, fmt.Sprintf("u%d@%c.example", c.roll(1000), 'a'+c.roll(4)))
	}
	ways := ups(office, mx, platform)
	for i := range ways {
		j := c.roll(i + 1)
		ways[i], ways[j] = ways[j], ways[i]
	}
	tenant, bulk, life := mail.TenantID(c.roll(4)), c.roll(3) == 0, time.Duration(30+c.roll(120))*time.Minute
	ways = ways[:1+c.roll(3)]
	lost := c.roll(10) == 0
	st := c.putAs(tenant, ways, to, func(m *mail.Message, _ []mail.Recipient) {
		m.Expires = m.Accepted.Add(life)
		if bulk {
			m.Stream = mail.StreamBroadcast
		}
	})
	c.ids = append(c.ids, st.Message.ID)
	if lost { // the process was slow, or will die before the hand-over
		go func() { time.Sleep(20 * time.Second); c.offer(st) }()
		return
	}
	c.d.Offer(st)
}

func (c *chaos) verify() {
	ok := map[who]int{}
	for _, t := range c.triedBy("") {
		if t.ok {
			ok[t.who]++
		}
	}
	count := map[mail.State]int{}
	for _, id := range c.ids {
		st, err := c.sp.Load(context.Background(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		final := make([]int, len(st.Recipients))
		for _, e := range c.events(id) {
			switch e.Type {
			case mail.EventDelivered, mail.EventFailed, mail.EventExpired, mail.EventCancelled:
				for _, i := range e.Recipients {
					final[i]++
				}
			}
		}
		for i, r := range st.Recipients {
			count[r.State]++
			n := ok[who{id, i}]
			switch {
			case !r.State.Final():
				c.t.Errorf("recipient %d of %s is still %s in lane %s, next %v", i, id, r.State, r.Lane, r.Next)
			case (r.State == mail.Delivered) != (n == 1) || n > 1:
				c.t.Errorf("recipient %d of %s is %s and was taken %d times", i, id, r.State, n)
			case final[i] != 1 && len(st.Recipients) < 20:
				c.t.Errorf("recipient %d of %s has %d final events", i, id, final[i])
			}
		}
	}
	c.t.Logf("%d messages, %d attempts: %v", len(c.ids), len(c.triedBy("")), count)
}
