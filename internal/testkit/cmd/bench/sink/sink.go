// Package sink is the server that relays under test send to, and the count of
// what came: of each message when, and whether once. It does so little for a
// message that the relay is what is measured.
package sink

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// Mode is how a server behaves.
type Mode int32

// The modes.
const (
	Up     Mode = iota // takes everything at once
	Down               // closes connections as they come
	Hangs              // accepts connections and never says a word
	Defers             // answers 451 to every recipient
)

// Sink is one SMTP server.
type Sink struct {
	arrivals *Arrivals
	ln       net.Listener
	mode     atomic.Int32

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// Listen starts a server on a free port of the loopback interface.
func Listen(a *Arrivals) (*Sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the relays: %w", err)
	}
	s := &Sink{arrivals: a, ln: ln, conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Port is where it listens.
func (s *Sink) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Close ends all sessions and waits for them.
func (s *Sink) Close() {
	s.ln.Close()
	s.hangUp()
	s.wg.Wait()
}

// Set changes how the server behaves, from the next connection on; those there
// are end, unless it goes on as it was.
func (s *Sink) Set(m Mode) {
	if Mode(s.mode.Swap(int32(m))) != m {
		s.hangUp()
	}
}

func (s *Sink) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *Sink) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		mode := Mode(s.mode.Load()) // with mu: Set hangs up what it did not reach
		s.conns[c] = true
		s.mu.Unlock()
		if mode == Down {
			s.forget(c)
			continue
		}
		s.wg.Go(func() {
			defer s.forget(c)
			s.session(c, mode)
		})
	}
}

func (s *Sink) forget(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
