// Package render turns stored bytes and a hop into the bytes to send. It is a
// pure function applied at each attempt: the same message goes by another way
// with other edits and signatures, and nothing stored is ever changed.
//
// What is sent is, in this order: the DKIM signatures, the fields the hop adds,
// the fields that were fixed at acceptance, the client's header with its edits,
// and the body. Content is changed only where the hop cannot carry it; then only
// the parts in question are re-encoded, before signing. Bodies stream; a message
// in memory is written without a copy.
package render

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"behalf/mail"
	"behalf/mail/header"
	"behalf/mail/scan"
	"behalf/mail/sign"
)

// Input is a message and the way it shall go. None of it may change later.
type Input struct {
	Message *mail.Message
	Header  []byte      // the client's, with the empty line; nil: read from Body
	Body    io.ReaderAt // the whole stored message; a [Memory] when it is in memory
	Hop     *mail.Hop
	Keys    []sign.Key       // for Hop.Sign, in that order
	Exclude []string         // fields the hop rewrites, which are not signed
	Now     func() time.Time // for t=; nil: time.Now
	Made    *sign.Cache      // signatures made lately; nil: none is used again
}

// Memory is a whole stored message in memory.
type Memory []byte

// ReadAt is io.ReaderAt.
func (m Memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Caps is what the next hop can take. BinaryMIME means BDAT too.
type Caps struct{ EightBitMIME, SMTPUTF8, BinaryMIME bool }

// Renderer renders one message for one hop. It may be used by several
// goroutines.
type Renderer struct {
	in Input

	mu    sync.Mutex
	head  []byte // the client's header with the edits made; nil until needed
	utf8  bool   // it has octets over 127
	hash  [32]byte
	first Rendered
	done  []*Rendered // first, and others
	few   [1]*Rendered
}

// New gives a renderer; nothing is computed yet.
func New(in Input) *Renderer {
	if in.Now == nil {
		in.Now = time.Now
	}
	return &Renderer{in: in}
}

// change is what must be done to a message so that a hop can carry it.
type change struct {
	sevenBit  bool // no octets over 127 below the header
	shorten   bool // no lines over 998 octets, no NUL, no lone CR or LF
	downgrade bool // no octets over 127 in the header
}

func (c change) body() bool { return c.sevenBit || c.shorten }

// For gives the bytes for a hop with these capabilities, computed once for all
// that ask for the same. A hop that cannot carry the message is a
// [*mail.Failure], OfMessage, cannot-carry.
func (r *Renderer) For(ctx context.Context, caps Caps) (*Rendered, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.edit(); err != nil {
		return nil, err
	}
	c := r.change(caps)
	for _, d := range r.done { // of eight changes at most
		if d.change == c {
			return d, nil
		}
	}
	d := &r.first
	if len(r.done) > 0 {
		d = new(Rendered)
	}
	if err := r.render(ctx, d, c); err != nil {
		return nil, err
	}
	if r.done == nil {
		r.done = r.few[:0]
	}
	r.done = append(r.done, d)
	return d, nil
}

// edit makes the hop's header, all but the signatures.
func (r *Renderer) edit() error {
	if r.head != nil {
		return nil
	}
	m, hop := r.in.Message, r.in.Hop
	client, err := r.client()
	if err != nil {
		return err
	}
	edits := m.Edits
	if len(hop.Edits) > 0 {
		edits = append(edits[:len(edits):len(edits)], hop.Edits...)
	}
	size := len(m.Front) + len(client) + len("\r\n\r\n")
	for _, f := range hop.Front {
		size += len(f.Name) + len(f.Value) + 64 // folded, it is somewhat longer
	}
	for i := range edits {
		size += len(edits[i].Name) + len(edits[i].Value) + 64
	}
	head := make([]byte, 0, size)
	for _, f := range hop.Front {
		head = header.AppendField(head, f.Name, f.Value)
	}
	head = header.AppendApplied(append(head, m.Front...), client, edits)
	r.head = endHeader(head)
	r.utf8 = header.NeedsUTF8(r.head)
	return nil
}

// client gives the client's header, which is not to be changed.
func (r *Renderer) client() ([]byte, error) {
	m := r.in.Message
	if r.in.Header != nil {
		return r.in.Header, nil
	}
	if whole, ok := r.in.Body.(Memory); ok && len(whole) >= m.HeaderSize {
		return whole[:m.HeaderSize], nil
	}
	client := make([]byte, m.HeaderSize)
	if _, err := r.in.Body.ReadAt(client, 0); err != nil && (err != io.EOF || m.Size != int64(m.HeaderSize)) {
		return nil, fmt.Errorf("read the stored header: %w", err)
	}
	return client, nil
}

// endHeader adds the empty line where a message without a body lacks it.
func endHeader(h []byte) []byte {
	if len(h) > 0 && !bytes.HasSuffix(h, []byte("\n")) {
		h = append(h, "\r\n"...)
	}
	if !bytes.HasSuffix(h, []byte("\r\n\r\n")) && string(h) != "\r\n" {
		h = append(h, "\r\n"...)
	}
	return h
}

func (r *Renderer) change(caps Caps) change {
	form := r.in.Message.Body
	binary := form.Binary && caps.BinaryMIME
	return change{
		sevenBit: form.EightBit && !caps.EightBitMIME && !binary,
		shorten:  (form.Long || form.Binary) && !binary,
		// What only our own edits brought in is encoded for every hop.
		downgrade: r.utf8 && (!caps.SMTPUTF8 || !form.UTF8),
	}
}

// render makes d, which nobody has seen yet.
func (r *Renderer) render(ctx context.Context, d *Rendered, c change) error {
	m := r.in.Message
	d.in, d.change, d.head, d.utf8 = &r.in, c, r.head, r.utf8
	d.binary, d.pieces = m.Body.Binary && !c.shorten, nil
	if c.downgrade {
		h, err := header.Downgrade(d.head)
		if err != nil {
			return err
		}
		d.head, d.utf8 = h, header.NeedsUTF8(h)
	}
	d.eightBit = m.Body.EightBit && !c.sevenBit || d.utf8
	d.bodySize = m.Size - int64(m.HeaderSize)
	if c.body() {
		if err := r.reencode(ctx, d, c); err != nil {
			return err
		}
	} else if len(r.in.Keys) > 0 {
		if err := r.hashBody(); err != nil {
			return err
		}
		d.hash = r.hash
	}
	if len(r.in.Keys) == 0 {
		return nil
	}
	draft, err := sign.NewDraft(d.head, d.hash, sign.Options{Keys: r.in.Keys, Time: r.in.Now(), Exclude: r.in.Exclude, Cache: r.in.Made})
	if err != nil {
		return fmt.Errorf("prepare signatures: %w", err)
	}
	d.draft = draft
	return nil
}

// hashBody gives the hash of the stored body, and computes it, once, if acceptance
// did not expect a signature.
func (r *Renderer) hashBody() error {
	m := r.in.Message
	switch {
	case r.hash != [32]byte{}:
		return nil
	case m.Hashed():
		r.hash = m.BodyHash
		return nil
	}
	h := scan.NewBodyHasher()
	if _, err := r.in.writeBody(h); err != nil {
		return err
	}
	r.hash = h.Sum()
	return nil
}

// undotted is a writer that has less to do for text whose lines all end in CRLF, the
// last one perhaps not at all, and of which none begins with a dot.
type undotted interface {
	WriteUndotted(p []byte) (int, error)
}

// writeBody writes the body as it is stored.
func (in *Input) writeBody(w io.Writer) (int64, error) {
	m := in.Message
	if m.Size == int64(m.HeaderSize) {
		return 0, nil
	}
	if mem, ok := in.Body.(Memory); ok {
		write := w.Write
		if u, ok := w.(undotted); ok && m.Body.Undotted && !m.Body.Binary {
			write = u.WriteUndotted
		}
		n, err := write(mem[m.HeaderSize:m.Size])
		return int64(n), err
	}
	return stream(w, in.Body, int64(m.HeaderSize), m.Size-int64(m.HeaderSize))
}

// reencode plans the body anew and computes its hash and size.
func (r *Renderer) reencode(ctx context.Context, d *Rendered, c change) error {
	m := r.in.Message
	p, err := planBody(ctx, r.in.Body, int64(m.HeaderSize), m.Size, d.head, c)
	if err != nil {
		return err
	}
	d.head = header.Wrap(setFields(d.head, p.edits))
	d.pieces = p.pieces
	h := scan.NewBodyHasher()
	if d.bodySize, err = d.writePieces(h); err != nil {
		return err
	}
	d.hash = h.Sum()
	return nil
}

// Rendered is a message as it goes to one hop.
type Rendered struct {
	in       *Input
	change   change
	head     []byte
	hash     [32]byte
	bodySize int64
	pieces   []piece // nil: the body as it is stored
	eightBit bool
	utf8     bool
	binary   bool
	draft    *sign.Draft // nil: nobody signs

	mu         sync.Mutex
	signed     bool
	signatures []byte
}

// Size is the exact number of octets that WriteTo writes.
func (d *Rendered) Size() int64 { return int64(d.draft.Size()) + int64(len(d.head)) + d.bodySize }

// EightBit reports whether these bytes need 8BITMIME.
func (d *Rendered) EightBit() bool { return d.eightBit }

// UTF8 reports whether the header needs SMTPUTF8.
func (d *Rendered) UTF8() bool { return d.utf8 }

// Binary reports whether these bytes need BINARYMIME and BDAT. That is so only
// for a message submitted as BINARYMIME, to a hop that offers it.
func (d *Rendered) Binary() bool { return d.binary }

// Signed names the signatures, "d=… s=… a=…".
func (d *Rendered) Signed() []string {
	if len(d.in.Keys) == 0 {
		return nil
	}
	s := make([]string, len(d.in.Keys))
	for i, k := range d.in.Keys {
		s[i] = k.String()
	}
	return s
}

// Computed is how many signatures Prepare has computed; others were at hand.
func (d *Rendered) Computed() int { return d.draft.Computed() }

// Prepare signs, once. RSA takes a millisecond or two: call it while the peer
// thinks about DATA.
func (d *Rendered) Prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.signed || len(d.in.Keys) == 0 {
		return nil
	}
	s, err := d.draft.Sign()
	if err != nil {
		return err
	}
	d.signatures, d.signed = s, true
	return nil
}

// WriteTo writes the message; it may be called again.
func (d *Rendered) WriteTo(w io.Writer) (int64, error) {
	if err := d.Prepare(context.Background()); err != nil {
		return 0, err
	}
	var total int64
	for _, b := range [...][]byte{d.signatures, d.head} {
		if len(b) == 0 {
			continue
		}
		n, err := w.Write(b)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	var n int64
	var err error
	if d.pieces != nil {
		n, err = d.writePieces(w)
	} else {
		n, err = d.in.writeBody(w)
	}
	return total + n, err
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// stream copies n octets from off through a pooled buffer.
func stream(w io.Writer, r io.ReaderAt, off, n int64) (int64, error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	var done int64
	for done < n {
		b := buf[:min(n-done, int64(len(buf)))]
		if k, err := r.ReadAt(b, off+done); k < len(b) {
			return done, fmt.Errorf("read the stored body: %w", noEOF(err))
		}
		k, err := w.Write(b)
		done += int64(k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// noEOF keeps a body that is too short from passing for its end.
func noEOF(err error) error {
	if err == io.EOF || err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
