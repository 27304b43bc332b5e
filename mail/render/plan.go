package render

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"behalf/mail"
	"behalf/mail/header"
)

// Bounds of what is taken apart; a message beyond them needs a hop that carries
// it as it is.
const (
	maxDepth    = 20
	maxEntities = 1000
	maxBoundary = 200
)

func cannotCarry(why string) *mail.Failure {
	return mail.Fail(554, mail.Enhanced{5, 6, 3}, mail.OfMessage, mail.ReasonCannotCarry,
		"the next server does not take the message as it is, and it cannot be converted: %s", why)
}

// bodyPlan is how to write a body that a hop cannot carry as it is.
type bodyPlan struct {
	edits  []mail.Edit // of the message's own header
	pieces []piece
}

// planBody walks the MIME structure of the stored message from off to end,
// streaming, and decides for each leaf whether and how it is encoded.
func planBody(ctx context.Context, r io.ReaderAt, off, end int64, head []byte, c change) (bodyPlan, error) {
	w := &walker{ctx: ctx, src: r, want: c, at: off, end: end, crlf: true,
		in: bufio.NewReaderSize(io.NewSectionReader(r, off, end-off), 64<<10)}
	e := entityOf(head, "text/plain")
	edits, err := w.entity(e)
	if err != nil {
		return bodyPlan{}, err
	}
	if len(edits) > 0 {
		if _, ok := header.Lookup(head, "MIME-Version"); !ok {
			edits = append(edits, mail.Edit{Op: mail.EditSet, Name: "MIME-Version", Value: "1.0"})
		}
	}
	if w.pieces == nil {
		w.pieces = []piece{} // an empty body, not the stored one
	}
	return bodyPlan{edits, w.pieces}, nil
}

// entity is what the header of a message or part says about its body.
type entity struct {
	typ      string // Content-Type as written, "" if absent
	media    string
	boundary string
	charset  string
	cte      string // lower case; "" if absent
}

func entityOf(head []byte, fallback string) entity {
	var e entity
	e.typ, _ = header.Lookup(head, "Content-Type")
	media, params := header.ContentType(e.typ)
	if media == "" {
		media = fallback
	}
	e.media, e.boundary, e.charset = media, params["boundary"], params["charset"]
	cte, _ := header.Lookup(head, "Content-Transfer-Encoding")
	cte, _, _ = strings.Cut(cte, "(")
	e.cte = strings.ToLower(strings.Trim(cte, " \t;"))
	return e
}

// identity reports whether the body stands as it is.
func (e entity) identity() bool {
	return e.cte == "" || e.cte == "7bit" || e.cte == "8bit" || e.cte == "binary"
}

// walker reads the body line by line and collects pieces.
type walker struct {
	ctx    context.Context
	src    io.ReaderAt
	in     *bufio.Reader
	want   change
	at     int64 // offset of what is read next
	end    int64
	crlf   bool // the line before ended in CRLF, so a boundary may come
	count  int
	depth  int
	sealed int // how many signed or encrypted containers we are in
	bounds []string
	pieces []piece

	// The line that was read last.
	start int64
	front []byte // its first octets
	stats stats
	hit   int  // the index in bounds of the boundary that it is, or -1
	last  bool // it is a closing one
}

// stats is what a stretch holds that a hop may not carry.
type stats struct {
	high   int64 // octets over 127
	all    int64
	long   bool
	binary bool
	text   utf8Check
}

func (s *stats) add(b []byte) {
	s.all += int64(len(b))
	high := int64(0)
	for _, c := range b {
		if c >= 0x80 {
			high++
		} else if c == 0 {
			s.binary = true
		}
	}
	s.high += high
	if high > 0 || len(s.text.rest) > 0 {
		s.text.add(b)
	}
}

// utf8Check judges a text that comes in pieces.
type utf8Check struct {
	bad  bool
	rest []byte // an unfinished character
}

func (u *utf8Check) add(b []byte) {
	if len(u.rest) > 0 {
		b = append(u.rest, b...)
		u.rest = nil
	}
	for len(b) > 0 && !u.bad {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			if !utf8.FullRune(b) {
				u.rest = append([]byte(nil), b...)
				return
			}
			u.bad = true
		}
		b = b[n:]
	}
}

func (u *utf8Check) valid() bool { return !u.bad && len(u.rest) == 0 }

// next reads a line; false at the end.
func (w *walker) next() (bool, error) {
	w.start, w.front, w.hit = w.at, w.front[:0], -1
	var tail [2]byte // the last two octets
	crs := 0
	for {
		b, err := w.in.ReadSlice('\n')
		w.at += int64(len(b))
		if room := maxBoundary + 8 - len(w.front); room > 0 {
			w.front = append(w.front, b[:min(room, len(b))]...)
		}
		w.stats.add(b)
		crs += bytes.Count(b, []byte{'\r'})
		for _, c := range b[max(0, len(b)-2):] {
			tail = [2]byte{tail[1], c}
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && w.at < w.end:
			err = io.ErrUnexpectedEOF
		case err == io.EOF:
			err = nil
		}
		if err != nil {
			return false, fmt.Errorf("read the stored body: %w", err)
		}
		w.endLine(tail, crs)
		return w.at > w.start, w.ctx.Err()
	}
}

// endLine judges the line that was read, given its last octets and its CRs.
func (w *walker) endLine(tail [2]byte, crs int) {
	may, length := w.crlf, w.at-w.start
	w.crlf = tail == [2]byte{'\r', '\n'}
	text := length
	if w.crlf {
		text -= 2
		crs--
	} else if tail[1] == '\n' {
		w.stats.binary = true
	}
	w.stats.binary = w.stats.binary || crs > 0
	w.stats.long = w.stats.long || text > 998
	ends := w.crlf || tail[1] != '\n' // not in a lone LF, which would have to be changed
	if may && ends && crs <= 0 && length < maxBoundary+8 {
		w.hit, w.last = w.boundary(w.front)
	}
}

// boundary finds which open boundary a line is.
func (w *walker) boundary(b []byte) (int, bool) {
	if len(b) < 2 || b[0] != '-' || b[1] != '-' {
		return -1, false
	}
	line := strings.TrimRight(string(b[2:]), " \t\r\n")
	for i := len(w.bounds) - 1; i >= 0; i-- {
		if rest, ok := strings.CutPrefix(line, w.bounds[i]); ok && (rest == "" || rest == "--") {
			return i, rest == "--"
		}
	}
	return -1, false
}

// region reads up to a boundary or the end and gives the stretch before it; the
// line end before a boundary belongs to the boundary.
func (w *walker) region() (start, end int64, err error) {
	w.stats = stats{}
	start = w.at
	for {
		ok, err := w.next()
		if err != nil || !ok {
			return start, w.at, err
		}
		if w.hit >= 0 {
			return start, max(start, w.start-2), nil
		}
	}
}

// fits reports whether the hop carries a stretch with these stats.
func (w *walker) fits() bool {
	return !(w.want.sevenBit && w.stats.high > 0) && !(w.want.shorten && (w.stats.long || w.stats.binary))
}

func (w *walker) add(c coding, start, end int64) {
	if n := len(w.pieces); c == asIs && n > 0 && w.pieces[n-1].coding == asIs && w.pieces[n-1].off+w.pieces[n-1].n == start {
		w.pieces[n-1].n += end - start
		return
	}
	if end > start {
		w.pieces = append(w.pieces, piece{coding: c, off: start, n: end - start})
	}
}

// delimiter adds the boundary line that ended a stretch.
func (w *walker) delimiter(end int64) {
	if w.hit >= 0 {
		w.add(asIs, end, w.at)
	}
}
