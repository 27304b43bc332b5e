package render

import (
	"bytes"
	"strings"

	"behalf/mail"
	"behalf/mail/header"
)

// entity walks the body of a message or part and gives the changes its header
// then needs. Afterwards w.hit is the boundary that ended it.
func (w *walker) entity(e entity) ([]mail.Edit, error) {
	w.count++
	if w.count > maxEntities {
		return nil, cannotCarry("it has more than 1,000 parts")
	}
	w.depth++
	defer func() { w.depth-- }()
	if w.depth > maxDepth {
		return nil, cannotCarry("its parts are nested more than 20 deep")
	}
	switch {
	case !e.identity():
		return w.leaf(e)
	case e.container():
		edits := w.relabel(e)
		if header.IsSealed(e.media) {
			w.sealed++
			defer func() { w.sealed-- }()
		}
		return edits, w.multipart(e)
	case e.media == "message/rfc822" || e.media == "message/global":
		return w.relabel(e), w.part("text/plain")
	}
	return w.leaf(e)
}

func (e entity) container() bool {
	return strings.HasPrefix(e.media, "multipart/") && e.boundary != "" && len(e.boundary) <= maxBoundary
}

// relabel keeps the declared encoding true where all parts below are changed to
// what the hop carries.
func (w *walker) relabel(e entity) []mail.Edit {
	label := ""
	switch {
	case w.want.sevenBit && (e.cte == "8bit" || e.cte == "binary"):
		label = "7bit"
	case w.want.shorten && e.cte == "binary":
		label = "8bit"
	}
	if label == "" || w.sealed > 0 {
		return nil
	}
	return []mail.Edit{{Op: mail.EditSet, Name: "Content-Transfer-Encoding", Value: label}}
}

func (w *walker) multipart(e entity) error {
	me := len(w.bounds)
	w.bounds = append(w.bounds, e.boundary)
	if err := w.unseen(); err != nil {
		return err
	}
	fallback := "text/plain"
	if e.media == "multipart/digest" {
		fallback = "message/rfc822"
	}
	for w.hit == me && !w.last {
		if err := w.part(fallback); err != nil {
			return err
		}
	}
	w.bounds = w.bounds[:me]
	if w.hit == me {
		return w.unseen()
	}
	return nil
}

// unseen takes a preamble or epilogue.
func (w *walker) unseen() error {
	start, end, err := w.region()
	if err != nil {
		return err
	}
	if w.fits() {
		w.add(asIs, start, end)
	} else if w.sealed > 0 {
		return sealedFailure()
	} else {
		w.add(scrubbed, start, end)
	}
	w.delimiter(end)
	return nil
}

func sealedFailure() error {
	return cannotCarry("it is signed or encrypted end to end, which a change would break")
}

// part takes the header of a part or of an attached message, and its body.
func (w *walker) part(fallback string) error {
	start, end, ended, err := w.header()
	if err != nil {
		return err
	}
	if end-start > header.MaxBytes {
		return cannotCarry("a part's header is larger than 128 KiB")
	}
	head := make([]byte, end-start)
	if n, err := w.src.ReadAt(head, start); n < len(head) {
		return noEOF(err)
	}
	fits := w.fits()
	at := len(w.pieces)
	w.pieces = append(w.pieces, piece{coding: literal}) // nothing that follows may be joined to it
	if ended {
		w.setSpan(at, start, end)
		if err := w.setHeader(at, head, fits, nil); err != nil {
			return err
		}
		w.delimiter(end)
		return nil
	}
	edits, err := w.entity(entityOf(head, fallback))
	if err != nil {
		return err
	}
	w.setSpan(at, start, end)
	return w.setHeader(at, head, fits, edits)
}

// header reads to the empty line; ended says that a boundary or the end of the
// message came before one.
func (w *walker) header() (start, end int64, ended bool, err error) {
	w.stats = stats{}
	start = w.at
	for {
		ok, err := w.next()
		switch {
		case err != nil:
			return 0, 0, false, err
		case !ok:
			return start, w.at, true, nil
		case w.hit >= 0:
			return start, max(start, w.start-2), true, nil
		case w.at-w.start == 2 && w.crlf:
			return start, w.at, false, nil
		}
	}
}

func (w *walker) setSpan(at int, start, end int64) {
	w.pieces[at] = piece{coding: asIs, off: start, n: end - start}
}

// setHeader puts a part's header into its piece if it must change.
func (w *walker) setHeader(at int, head []byte, fits bool, edits []mail.Edit) error {
	if !fits || len(edits) > 0 {
		if w.sealed > 0 {
			return sealedFailure()
		}
		if !fits {
			h, err := header.Downgrade(cleanHeader(head))
			if err != nil {
				return err
			}
			head = h
		}
		w.pieces[at] = piece{coding: literal, text: header.Wrap(setFields(head, edits))}
	}
	return nil
}

// cleanHeader puts blanks for what no header may hold.
func cleanHeader(h []byte) []byte {
	out := bytes.Clone(h)
	for i, c := range out {
		lone := c == '\r' && (i+1 == len(out) || out[i+1] != '\n') || c == '\n' && (i == 0 || h[i-1] != '\r')
		if c == 0 || lone {
			out[i] = ' '
		}
	}
	return out
}

// setFields sets fields; new ones stand last.
func setFields(head []byte, edits []mail.Edit) []byte {
	for _, e := range edits {
		if _, ok := header.Lookup(head, e.Name); ok {
			head = header.Apply(head, []mail.Edit{e})
			continue
		}
		body := bytes.TrimSuffix(head, []byte("\r\n"))
		if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
			body = append(body[:len(body):len(body)], "\r\n"...)
		}
		head = append(header.AppendField(body[:len(body):len(body)], e.Name, e.Value), "\r\n"...)
	}
	return head
}

// leaf takes a body that is not taken apart.
func (w *walker) leaf(e entity) ([]mail.Edit, error) {
	start, end, err := w.region()
	if err != nil {
		return nil, err
	}
	c, edits, err := w.codingOf(e)
	if err != nil {
		return nil, err
	}
	w.add(c, start, end)
	if w.hit < 0 && (c == toBase64 || c == mendBase64) {
		w.pieces = append(w.pieces, piece{coding: literal, text: []byte("\r\n")})
	}
	w.delimiter(end)
	return edits, nil
}

// codingOf decides how a leaf with the present stats is written.
func (w *walker) codingOf(e entity) (coding, []mail.Edit, error) {
	if w.fits() {
		return asIs, w.relabel(e), nil
	}
	switch {
	case w.sealed > 0:
		return 0, nil, sealedFailure()
	case e.cte == "base64":
		return mendBase64, nil, nil
	case e.cte == "quoted-printable":
		return mendQuoted, nil, nil
	case !e.identity():
		return 0, nil, cannotCarry("a part has the unknown encoding " + clip(e.cte))
	case strings.HasPrefix(e.media, "multipart/") || e.media == "message/partial" || e.media == "message/external-body":
		return 0, nil, cannotCarry("a part of type " + clip(e.media) + " cannot be encoded")
	}
	text := strings.HasPrefix(e.media, "text/") || strings.HasPrefix(e.media, "message/")
	c, label := toBase64, "base64"
	if text && w.stats.high*3 < w.stats.all {
		c, label = toQuoted, "quoted-printable"
	}
	edits := []mail.Edit{{Op: mail.EditSet, Name: "Content-Transfer-Encoding", Value: label}}
	if strings.HasPrefix(e.media, "text/") && e.charset == "" && w.stats.high > 0 {
		charset := "utf-8"
		if !w.stats.text.valid() {
			charset = "unknown-8bit" // RFC 1428
		}
		typ := e.typ
		if typ == "" {
			typ = "text/plain"
		}
		edits = append(edits, mail.Edit{Op: mail.EditSet, Name: "Content-Type", Value: strings.TrimRight(typ, "; \t") + "; charset=" + charset})
	}
	return c, edits, nil
}

func clip(s string) string { return s[:min(len(s), 40)] }
