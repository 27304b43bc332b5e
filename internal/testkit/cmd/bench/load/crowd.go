package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Crowd is clients that have opened a session and do nothing.
type Crowd struct{ clients []*client }

// perAddress is how many of a crowd share an address: fewer than servers let
// come from one.
const perAddress = 500

// Gather opens n sessions, one after the other, from addresses of the loopback
// network; with a user they log in. The crowd is smaller where the server lets
// the next one wait.
func Gather(ctx context.Context, addr string, a Account, n int) (*Crowd, error) {
	c := &Crowd{}
	for i := range n {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/perAddress))}}
		one, err := dialFrom(ctx, d, addr, a)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
				return c, nil
			}
			c.Leave()
			return nil, fmt.Errorf("client %d: %w", i+1, err)
		}
		c.clients = append(c.clients, one)
	}
	return c, nil
}

// Len is how many there are.
func (c *Crowd) Len() int { return len(c.clients) }

// Leave closes all sessions.
func (c *Crowd) Leave() {
	for _, one := range c.clients {
		one.conn.Close()
	}
}
