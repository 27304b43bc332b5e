// Package smtppeer is an SMTP server for tests of the ways out. A [Peer] takes
// mail like a well-behaved server and can be told to misbehave at any step; a
// [Dialog] follows a script of sent and expected lines to the letter.
package smtppeer

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options say what a Peer offers. The zero value offers all that it can.
type Options struct {
	Addr      string   // where to listen; empty: 127.0.0.1:0
	Ext       []string // EHLO keywords; nil: DefaultExt
	LowerCase bool     // EHLO keywords in lower case
	TLS       *tls.Config
	Implicit  bool              // TLS from the first octet
	Auth      []string          // mechanisms offered: PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-256
	Users     map[string]string // passwords
	On        func(Step) Action // may change what happens at a step
}

// DefaultExt is what a Peer offers by default.
var DefaultExt = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 10485760", "ENHANCEDSTATUSCODES"}

// Step is a moment at which a Peer would reply.
type Step struct {
	Conn int    // 1, 2, … in order of connecting
	Txn  int    // transactions begun on the connection, this one included
	Verb string // CONNECT, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, DOT, RSET, QUIT, NOOP
	Line string // the command as it came
}

// Action is what to do instead of the usual.
type Action struct {
	Reply string        // without its line end; "" replies as usual
	Close bool          // close the connection, after Reply if there is one, else at once
	Stall bool          // say nothing until the client goes away
	Wait  time.Duration // before all else
}

// Message is one that the peer took.
type Message struct {
	From, FromArgs string
	To, ToArgs     []string
	Data           string // dots removed, final dot too
	TLS            bool
	Conn           int
	User           string
}

// Peer is a running server.
type Peer struct {
	AddrPort netip.AddrPort

	o  Options
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	msgs  []Message
	lines []string
	conns map[net.Conn]bool
	count int
}

// Start runs a Peer until the test ends.
func Start(t testing.TB, o Options) *Peer {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Ext == nil {
		o.Ext = DefaultExt
	}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &Peer{AddrPort: ln.Addr().(*net.TCPAddr).AddrPort(), o: o, ln: ln, conns: map[net.Conn]bool{}}
	p.wg.Add(1)
	go p.accept()
	t.Cleanup(p.Close)
	return p
}

// Host is the address that the peer listens at.
func (p *Peer) Host() string { return p.AddrPort.Addr().String() }

// Port is the port that the peer listens at.
func (p *Peer) Port() uint16 { return p.AddrPort.Port() }

// Close ends the peer and its sessions, and waits for them.
func (p *Peer) Close() {
	p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Messages are those taken so far.
func (p *Peer) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.msgs)
}

// Lines are the commands received so far, of all sessions.
func (p *Peer) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// Conns counts the connections made so far.
func (p *Peer) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Alive counts the connections that are open.
func (p *Peer) Alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (p *Peer) accept() {
	defer p.wg.Done()
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.count++
		p.conns[c] = true
		s := &session{p: p, n: p.count, raw: c, conn: c}
		p.mu.Unlock()
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			s.serve()
			c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		}()
	}
}

// session is one connection.
type session struct {
	p         *Peer
	n, txn    int
	raw, conn net.Conn
	r         *bufio.Reader
	w         *bufio.Writer
	tls       bool
	user      string
	cur       Message
	open      bool // between MAIL and the end of the transaction
	chunks    []byte
}

func (s *session) buffers() {
	s.r, s.w = bufio.NewReaderSize(s.conn, 64<<10), bufio.NewWriter(s.conn)
}

func (s *session) startTLS() bool {
	c := tls.Server(s.raw, s.p.o.TLS)
	if c.Handshake() != nil {
		return false
	}
	s.conn, s.tls, s.cur, s.open = c, true, Message{}, false
	s.buffers()
	return true
}

func (s *session) serve() {
	s.buffers()
	if s.p.o.Implicit && !s.startTLS() {
		return
	}
	if !s.step("CONNECT", "", "220 peer.test ESMTP") {
		s.w.Flush()
		return
	}
	for {
		line, err := s.line()
		if err != nil || !s.command(line) {
			s.w.Flush()
			return
		}
	}
}

// line reads a command; replies wait until the client has nothing more to say.
func (s *session) line() (string, error) {
	if s.r.Buffered() == 0 {
		s.w.Flush()
	}
	line, err := s.r.ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	if err == nil {
		s.p.mu.Lock()
		s.p.lines = append(s.p.lines, line)
		s.p.mu.Unlock()
	}
	return line, err
}

// step replies as usual unless On says otherwise; false ends the session.
func (s *session) step(verb, line, usual string) bool {
	ok, _ := s.decide(verb, line, usual)
	return ok
}

// decide also returns the code of the reply given.
func (s *session) decide(verb, line, usual string) (ok bool, code int) {
	var a Action
	if s.p.o.On != nil {
		a = s.p.o.On(Step{s.n, s.txn, verb, line})
	}
	if a.Wait > 0 {
		s.w.Flush()
		time.Sleep(a.Wait)
	}
	if a.Stall {
		s.w.Flush()
		io.Copy(io.Discard, s.r)
		return false, 0
	}
	if a.Reply == "" && a.Close {
		s.w.Flush()
		return false, 0
	}
	if a.Reply != "" {
		usual = a.Reply
	}
	s.w.WriteString(usual + "\r\n")
	last := usual[strings.LastIndexByte(usual, '\n')+1:]
	code, _ = strconv.Atoi(last[:min(3, len(last))])
	return !a.Close, code
}
