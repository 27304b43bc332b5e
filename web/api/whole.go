package api

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"behalf/mail"
	"behalf/mail/header"
	"behalf/relay"
)

// whole takes a message in RFC 5322 form, with the envelope in the query.
func (a *API) whole(w http.ResponseWriter, r *http.Request) (relay.Submission, error) {
	s := relay.Submission{Envelope: mail.Envelope{UTF8: true, EightBit: true}}
	q := r.URL.Query()
	for _, to := range q["to"] {
		for one := range strings.SplitSeq(to, ",") {
			addr, err := mail.ParseAddress(strings.TrimSpace(one))
			if err != nil {
				return s, bad("to: %v", err)
			}
			s.Recipients = append(s.Recipients, mail.Recipient{Address: addr})
		}
	}
	if len(s.Recipients) == 0 {
		return s, bad("name the recipients in the query: ?to=address")
	}
	if err := hintsFrom(q, &s.Hints); err != nil {
		return s, err
	}
	// A retry repeats the request to the octet, the query included.
	asked := sha256.New()
	io.WriteString(asked, q.Encode()+"\x00")
	body := io.TeeReader(http.MaxBytesReader(w, r.Body, a.MaxSize+a.MaxSize/64), asked) // bare LF grow to CRLF
	s.Hash = func() [32]byte { return [32]byte(asked.Sum(nil)) }
	switch from := strings.TrimSpace(q.Get("from")); from {
	case "<>":
	case "":
		whole, addr, err := peekFrom(body)
		if err != nil {
			return s, err
		}
		s.Envelope.From, body = addr, whole
	default:
		addr, err := mail.ParseAddress(strings.Trim(from, "<>"))
		if err != nil {
			return s, bad("from: %v", err)
		}
		s.Envelope.From = addr
	}
	s.Write = func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 32<<10)
		lines := newCRLF(out)
		if _, err := io.Copy(lines, body); err != nil {
			return err
		}
		return errors.Join(lines.Close(), out.Flush())
	}
	return s, nil
}

func hintsFrom(q url.Values, h *relay.Hints) error {
	h.Stream, h.Tag, h.Method = q.Get("stream"), q.Get("tag"), mail.Method(q.Get("method"))
	h.Route = relay.ParseRoute(q.Get("route"))
	if at := q.Get("send_at"); at != "" {
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return bad("send_at: want a time such as 2027-01-31T08:00:00Z")
		}
		h.SendAt = t
	}
	return nil
}

// peekFrom reads as much of the message as holds its header, finds the From
// address, and gives a reader of the whole again.
func peekFrom(r io.Reader) (io.Reader, mail.Address, error) {
	var head []byte
	buf := make([]byte, 4096)
	for len(head) <= header.MaxBytes {
		n, err := r.Read(buf)
		seen := max(0, len(head)-3) // the empty line may lie across two reads
		head = append(head, buf[:n]...)
		if err != nil && err != io.EOF {
			return nil, mail.Address{}, fmt.Errorf("reading the message: %w", err)
		}
		end := endOfHeader(head, seen)
		if end < 0 && err == nil {
			continue
		}
		if end < 0 {
			end = len(head)
		}
		addr, err := fromIn(head[:end])
		return io.MultiReader(bytes.NewReader(head), r), addr, err
	}
	return nil, mail.Address{}, bad("the header is larger than %d octets", header.MaxBytes)
}

// endOfHeader is where the header ends, its empty line included, looked for
// from an offset on; -1 when it is not there yet. Lines end in LF or CRLF.
func endOfHeader(b []byte, from int) int {
	for i := from; i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		rest := b[i+1:]
		if bytes.HasPrefix(rest, []byte("\n")) {
			return i + 2
		}
		if bytes.HasPrefix(rest, []byte("\r\n")) {
			return i + 3
		}
	}
	return -1
}

// fromIn is the From address of a header.
func fromIn(text []byte) (mail.Address, error) {
	var lines bytes.Buffer
	if _, err := newCRLF(&lines).Write(text); err != nil {
		return mail.Address{}, err
	}
	h, err := header.Parse(lines.Bytes())
	if err != nil {
		return mail.Address{}, err
	}
	addr, _, err := header.ParseFrom(h.Get("From"))
	if err != nil {
		return addr, bad("the From field must hold exactly one mailbox: %v", err)
	}
	return addr, nil
}
