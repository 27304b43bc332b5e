// Package load submits mail by SMTP, as fast as the replies come or at a fixed
// pace, and so that the client costs little beside the server: messages are made
// once and numbered in place, a burst is one write, and TLS makes full records.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"behalf/internal/testkit/cmd/bench/sink"
)

// Account is who submits; without User there is neither TLS nor log-in.
type Account struct{ From, User, Pass string }

// Load says how mail is submitted.
type Load struct {
	Addr     string
	Accounts []Account // sessions take them in turns
	Sessions int
	Each     int // messages of a session, then comes a new one; 0: all
	Size     int // octets of a message, header included

	Recipients int                             // of a message
	Recipient  func(b []byte, i, k int) []byte // appends the k-th address of message i
}

// Sent is what became of the messages.
type Sent struct {
	Began    []int64         // when each was begun, or was due, in nanoseconds since 1970
	Took     []time.Duration // until its 250 came; 0: it did not come
	Accepted int
	Start    time.Time
	Lasted   time.Duration
}

// patience is how long no message may be accepted before a crew gives up.
const patience = 90 * time.Second

// separate is the size from which the body of a message is not copied for each
// session.
const separate = 128 << 10

// Crew is sessions that stay open between batches.
type Crew struct {
	load    Load
	body    []byte
	members []*member
	account atomic.Int64

	mu     sync.Mutex
	conns  map[net.Conn]bool
	broken bool
}

// member is one place in a crew.
type member struct {
	client *client
	from   string
	left   int // messages until the session is renewed
}

// NewCrew opens no session yet.
func NewCrew(l Load) *Crew {
	if l.Recipient == nil {
		l.Recipient = FewRecipients
	}
	l.Recipients = max(l.Recipients, 1)
	c := &Crew{load: l, conns: map[net.Conn]bool{}}
	c.body = append(text(l.Size-len(newHead(l.Accounts[0].From, "aaaaaaaa", time.Now()).b)), ".\r\n"...)
	for i := range l.Sessions {
		c.members = append(c.members, &member{left: l.Each * (i + 1) / l.Sessions}) // they are not renewed all at once
	}
	return c
}

// Close ends the sessions.
func (c *Crew) Close() {
	for _, m := range c.members {
		if m.client != nil {
			m.client.quit()
			m.client = nil
		}
	}
}

// Send submits the messages of a run: rate a second, each as near as possible to
// the moment when it is due, or with rate 0 as fast as replies come. It returns
// with the first error, after all sessions have ended.
func (c *Crew) Send(ctx context.Context, run *sink.Run, rate float64) (Sent, error) {
	n := run.Len()
	s := Sent{Began: make([]int64, n), Took: make([]time.Duration, n), Start: time.Now()}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	keep := context.AfterFunc(ctx, c.hangUp)
	var next, accepted atomic.Int64
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(ctx, &accepted, fail)
	}()
	var wg sync.WaitGroup
	for _, m := range c.members {
		wg.Go(func() {
			if err := c.work(ctx, m, run, rate, &s, &next, &accepted); err != nil {
				fail(err)
			}
		})
	}
	wg.Wait()
	s.Accepted, s.Lasted = int(accepted.Load()), time.Since(s.Start)
	err := context.Cause(ctx)
	keep()
	fail(nil)
	<-watched
	return s, err
}

// watch gives up when nothing is accepted any more.
func watch(ctx context.Context, accepted *atomic.Int64, fail func(error)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before, since := int64(-1), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch got := accepted.Load(); {
		case got != before:
			before, since = got, time.Now()
		case time.Since(since) > patience:
			fail(fmt.Errorf("nothing was accepted for %v, after %d messages", patience, got))
		}
	}
}

// work sends messages in one place until there are no more.
func (c *Crew) work(ctx context.Context, m *member, run *sink.Run, rate float64, s *Sent, next, accepted *atomic.Int64) error {
	var h head
	var whole []byte
	made := ""
	for {
		i := int(next.Add(1)) - 1
		if i >= run.Len() || ctx.Err() != nil {
			return nil
		}
		begin := time.Now()
		if rate > 0 {
			begin = s.Start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			if !sleep(ctx, time.Until(begin)) {
				return nil
			}
		}
		if err := c.renew(ctx, m); err != nil {
			return fmt.Errorf("opening a session: %w", err)
		}
		if made != m.from {
			h, made = newHead(m.from, run.ID, s.Start), m.from
			if len(c.body) < separate {
				whole = append(append(whole[:0], h.b...), c.body...)
				h.b = whole
			}
		}
		h.number(i)
		parts := [][]byte{h.b, c.body}
		if len(c.body) < separate {
			parts = parts[:1]
		}
		if rate == 0 {
			begin = time.Now()
		}
		s.Began[i] = begin.UnixNano()
		if err := m.client.send(&c.load, m.from, i, parts...); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		s.Took[i] = time.Since(begin)
		accepted.Add(1)
		m.left--
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// renew opens a session if there is none, or its messages are used up.
func (c *Crew) renew(ctx context.Context, m *member) error {
	if m.client != nil && (c.load.Each == 0 || m.left > 0) {
		return nil
	}
	if m.client != nil {
		c.track(m.client.conn, false)
		m.client.quit()
		m.client, m.left = nil, c.load.Each
	}
	a := c.load.Accounts[int(c.account.Add(1)-1)%len(c.load.Accounts)]
	client, err := dial(ctx, c.load.Addr, a)
	if err != nil {
		return err
	}
	if !c.track(client.conn, true) {
		client.conn.Close()
		return errors.New("the others have ended")
	}
	m.client, m.from = client, a.From
	if m.left <= 0 {
		m.left = c.load.Each
	}
	return nil
}

// track notes an open connection, or one that ends.
func (c *Crew) track(conn net.Conn, open bool) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !open {
		delete(c.conns, conn)
		return true
	}
	if !c.broken {
		c.conns[conn] = true
	}
	return !c.broken
}

// hangUp ends what is under way.
func (c *Crew) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	for conn := range c.conns {
		conn.Close()
	}
}
