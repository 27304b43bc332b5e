package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sink is the SMTP server that all relays send to. It takes everything at once
// and notes when the message of each number of the run came first, and how
// often.
type sink struct {
	ln   net.Listener
	down atomic.Bool // connections are closed as they come
	run  atomic.Pointer[run]

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// run is what arrived of one load.
type run struct {
	id      string // begins every Message-ID of the load
	first   []atomic.Int64
	copies  []atomic.Int32
	arrived atomic.Int64 // messages that came at least once
	last    atomic.Int64 // when the last of them came, in nanoseconds since 1970
	signed  atomic.Int64
	stray   atomic.Int64
}

func newRun(id string, n int) *run {
	return &run{id: id, first: make([]atomic.Int64, n), copies: make([]atomic.Int32, n)}
}

// took notes that a message came.
func (r *run) took(id []byte, signed bool) {
	number, ok := bytes.CutPrefix(id, []byte(r.id+"."))
	number, _, _ = bytes.Cut(number, []byte("@"))
	i, err := strconv.Atoi(string(number))
	if !ok || err != nil || i < 0 || i >= len(r.first) {
		r.stray.Add(1)
		return
	}
	if r.copies[i].Add(1) > 1 {
		return
	}
	now := time.Now().UnixNano()
	r.first[i].Store(now)
	r.last.Store(now)
	if signed {
		r.signed.Add(1)
	}
	r.arrived.Add(1)
}

func newSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the relays: %w", err)
	}
	s := &sink{ln: ln, conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *sink) port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// close ends all sessions and waits for them.
func (s *sink) close() {
	s.ln.Close()
	s.hangUp()
	s.wg.Wait()
}

func (s *sink) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// setDown makes the sink a hop that is down, or one that is up again.
func (s *sink) setDown(down bool) {
	s.down.Store(down)
	if down {
		s.hangUp()
	}
}

func (s *sink) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		if s.down.Load() {
			c.Close()
			continue
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.session(c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// session speaks just enough SMTP for a relay; replies to a burst of commands go
// out together.
func (s *sink) session(c net.Conn) {
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriter(c)
	w.WriteString("220 sink.test ESMTP\r\n")
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Minute)) // a read on a closed connection fails anyhow
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(bytes.ToUpper(line[:4])) {
		case "EHLO":
			w.WriteString("250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600\r\n")
		case "QUIT":
			w.WriteString("221 2.0.0 bye\r\n")
			w.Flush()
			return
		case "DATA":
			w.WriteString("354 go ahead\r\n")
			if w.Flush() != nil {
				return
			}
			id, signed, err := readMessage(r)
			if err != nil {
				return
			}
			if run := s.run.Load(); run != nil {
				run.took(id, signed)
			}
			w.WriteString("250 2.0.0 taken\r\n")
		default:
			w.WriteString("250 2.0.0 ok\r\n")
		}
	}
}

// readMessage reads up to the final dot and gives the Message-ID.
func readMessage(r *bufio.Reader) (id []byte, signed bool, err error) {
	inHeader, whole := true, true
	for {
		line, err := r.ReadSlice('\n')
		begins := whole
		whole = err == nil
		if err != nil && err != bufio.ErrBufferFull {
			return nil, false, err
		}
		switch {
		case !begins:
		case len(line) == 3 && line[0] == '.':
			return id, signed, nil
		case !inHeader:
		case len(line) == 2:
			inHeader = false
		default:
			name, value, _ := bytes.Cut(line, []byte(":"))
			if bytes.EqualFold(name, []byte("Message-ID")) {
				id = append(id[:0], bytes.Trim(value, " \t\r\n<>")...)
			}
			signed = signed || bytes.EqualFold(name, []byte("DKIM-Signature"))
		}
	}
}
