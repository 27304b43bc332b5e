package render

import (
	"bufio"
	"encoding/base64"
	"io"
)

// coding is how a piece of the stored body is written.
type coding uint8

const (
	asIs       coding = iota
	literal           // bytes of ours, in place of a part's header
	toQuoted          // quoted-printable
	toBase64          // base64
	mendQuoted        // quoted-printable that a hop cannot carry, made proper
	mendBase64        // base64 with overlong lines or stray octets, made proper
	scrubbed          // text that no reader shows: preambles and epilogues
)

// piece is a stretch of the stored message and its coding.
type piece struct {
	coding coding
	text   []byte // of literal
	off, n int64
}

// writePieces writes the body as planned.
func (d *Rendered) writePieces(w io.Writer) (int64, error) {
	count := &counting{w: w}
	out := bufio.NewWriterSize(count, 32<<10)
	for _, p := range d.pieces {
		var err error
		switch p.coding {
		case literal:
			_, err = out.Write(p.text)
		case asIs:
			_, err = stream(out, d.in.Body, p.off, p.n)
		default:
			e := newEncoder(p.coding, out)
			if _, err = stream(e, d.in.Body, p.off, p.n); err == nil {
				err = e.Close()
			}
		}
		if err != nil {
			return count.n, err
		}
	}
	err := out.Flush()
	return count.n, err
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// newEncoder gives the writer for a coding. Errors of out stay with out, whose
// Flush tells them.
func newEncoder(c coding, out *bufio.Writer) io.WriteCloser {
	switch c {
	case toQuoted:
		return &quoted{out: out}
	case toBase64:
		return base64.NewEncoder(base64.StdEncoding, &wrap64{out: out})
	case mendQuoted:
		return &mender{q: quoted{out: out}}
	case mendBase64:
		return &wrap64{out: out, filter: true}
	}
	return &scrubber{out: out}
}

// wrap64 breaks base64 into lines of 76, with no line end after the last. As a
// filter it leaves out everything that is not of the alphabet.
type wrap64 struct {
	out    *bufio.Writer
	col    int
	filter bool
}

func (w *wrap64) Write(p []byte) (int, error) {
	for _, c := range p {
		if w.filter && !isBase64(c) {
			continue
		}
		if w.col == 76 {
			w.out.WriteString("\r\n")
			w.col = 0
		}
		w.out.WriteByte(c)
		w.col++
	}
	return len(p), nil
}

func (w *wrap64) Close() error { return nil }

func isBase64(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '='
}

// quoted writes quoted-printable (RFC 2045, section 6.7). CRLF is a line break;
// a lone CR or LF is data. A dash or dot never begins a line, so that no line can
// look like a boundary.
type quoted struct {
	out *bufio.Writer
	col int
	ws  byte // a blank that may turn out to end its line
	cr  bool // a CR that may turn out to begin a line end
}

func (q *quoted) Write(p []byte) (int, error) {
	for _, c := range p {
		q.put(c)
	}
	return len(p), nil
}

func (q *quoted) put(c byte) {
	if q.cr {
		q.cr = false
		if c == '\n' {
			q.lineEnd()
			return
		}
		q.blank()
		q.hex('\r')
	}
	switch {
	case c == '\r':
		q.cr = true
	case c == ' ' || c == '\t':
		q.blank()
		q.ws = c
	case c > ' ' && c < 0x7f && c != '=':
		q.blank()
		q.plain(c)
	default:
		q.blank()
		q.hex(c)
	}
}

// blank writes a held blank, which text follows.
func (q *quoted) blank() {
	if q.ws != 0 {
		q.room(1)
		q.out.WriteByte(q.ws)
		q.col++
		q.ws = 0
	}
}

func (q *quoted) lineEnd() {
	if q.ws != 0 {
		q.hex(q.ws)
		q.ws = 0
	}
	q.out.WriteString("\r\n")
	q.col = 0
}

// room breaks the line softly unless n more octets fit.
func (q *quoted) room(n int) {
	if q.col+n > 75 {
		q.out.WriteString("=\r\n")
		q.col = 0
	}
}

func (q *quoted) plain(c byte) {
	q.room(1)
	if q.col == 0 && (c == '-' || c == '.') {
		q.hex(c)
		return
	}
	q.out.WriteByte(c)
	q.col++
}

func (q *quoted) hex(c byte) {
	const digits = "0123456789ABCDEF"
	q.room(3)
	q.out.WriteByte('=')
	q.out.WriteByte(digits[c>>4])
	q.out.WriteByte(digits[c&15])
	q.col += 3
}

func (q *quoted) Close() error {
	if q.cr {
		q.cr = false
		q.blank()
		q.hex('\r')
	}
	if q.ws != 0 {
		q.hex(q.ws)
		q.ws = 0
	}
	return nil
}

// mender makes quoted-printable proper that has octets over 127 or overlong
// lines, so that it decodes to the same. A blank at a line end, which decoders
// drop, goes.
type mender struct {
	q    quoted
	held []byte // an = and what follows it, until its meaning is known
}

func (m *mender) Write(p []byte) (int, error) {
	for _, c := range p {
		m.put(c)
	}
	return len(p), nil
}

func (m *mender) put(c byte) {
	if len(m.held) == 0 {
		if c == '=' {
			m.held = append(m.held, c)
			return
		}
		m.plain(c)
		return
	}
	m.held = append(m.held, c)
	switch h := m.held[1:]; {
	case len(h) == 2 && isHex(h[0]) && isHex(h[1]):
		m.settle()
		m.q.hex(unhex(h[0])<<4 | unhex(h[1]))
		m.held = m.held[:0]
	case len(h) == 1 && isHex(h[0]):
	case c == '\n' && h[len(h)-1] == '\n' && len(h) >= 2 && h[len(h)-2] == '\r': // a soft break, perhaps with blanks before it
		m.settle()
		m.q.out.WriteString("=\r\n")
		m.q.col = 0
		m.held = m.held[:0]
	case len(h) < 100 && (c == ' ' || c == '\t' || c == '\r') && (len(h) == 1 || h[len(h)-2] == ' ' || h[len(h)-2] == '\t'):
	default: // a stray =
		rest := append([]byte(nil), h...)
		m.held = m.held[:0]
		m.settle()
		m.q.hex('=')
		for _, c := range rest {
			m.put(c)
		}
	}
}

// settle writes what the text before may still hold open.
func (m *mender) settle() {
	if m.q.cr {
		m.q.cr = false
		m.q.blank()
		m.q.hex('\r')
	}
	m.q.blank()
}

func (m *mender) plain(c byte) {
	if m.q.cr && c == '\n' {
		m.q.ws = 0
	}
	m.q.put(c)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' || 'a' <= c && c <= 'f'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

func (m *mender) Close() error {
	for _, c := range m.held {
		if c == '=' {
			m.settle()
			m.q.hex(c)
		} else {
			m.q.put(c)
		}
	}
	m.held = nil
	return m.q.Close()
}

// scrubber puts a question mark for what a hop cannot carry and breaks overlong
// lines.
type scrubber struct {
	out *bufio.Writer
	col int
	cr  bool
}

func (s *scrubber) Write(p []byte) (int, error) {
	for _, c := range p {
		if s.cr {
			s.cr = false
			if c == '\n' {
				s.out.WriteString("\r\n")
				s.col = 0
				continue
			}
			s.put('?')
		}
		switch {
		case c == '\r':
			s.cr = true
		case c == 0 || c == '\n' || c >= 0x80:
			s.put('?')
		default:
			s.put(c)
		}
	}
	return len(p), nil
}

func (s *scrubber) put(c byte) {
	if s.col == 998 {
		s.out.WriteString("\r\n")
		s.col = 0
	}
	s.out.WriteByte(c)
	s.col++
}

func (s *scrubber) Close() error {
	if s.cr {
		s.put('?')
	}
	return nil
}
