package scan

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message"

	"behalf/mail"
	"behalf/mail/header"
)

// Bounds of ReadParts.
const (
	maxDepth = 20
	maxParts = 1000
	maxHosts = 1000
	maxName  = 255 // octets of a file name or media type, the last ones
)

// Attachment is a part that is not the text of the message.
type Attachment struct {
	Filename    string `json:"filename"`     // decoded, its last 255 octets; "" if it has none
	ContentType string `json:"content_type"` // media type in lower case, likewise
	Size        int64  `json:"size"`         // octets, decoded
}

// Parts is what policies may ask about the structure of a message.
type Parts struct {
	Attachments []Attachment `json:"attachments"`
	URLHosts    []string     `json:"url_hosts"` // of links in text parts: lower case, sorted, once each
	Count       int          `json:"count"`     // all parts, containers included
	// Truncated is set where not all could be seen: nested over 20 deep, over
	// 1,000 parts or hosts, or not well formed.
	Truncated bool `json:"truncated"`
}

// ReadParts streams through a whole message and lists its parts. Broken MIME is
// no error but sets Truncated; errors are those of r.
func ReadParts(r io.Reader) (Parts, error) {
	src := &source{r: r}
	w := walker{hosts: map[string]bool{}}
	w.message(src, 0)
	if src.err != nil {
		return Parts{}, src.err
	}
	for h := range w.hosts {
		w.URLHosts = append(w.URLHosts, h)
	}
	slices.Sort(w.URLHosts)
	return w.Parts, nil
}

// source tells errors of the reader below from those of parsing.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

type walker struct {
	Parts
	hosts map[string]bool
}

func (w *walker) message(r io.Reader, depth int) {
	e, err := message.ReadWithOptions(r, &message.ReadOptions{MaxHeaderBytes: header.MaxBytes})
	if e == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		w.Truncated = true
		return
	}
	w.part(e, depth)
}

func (w *walker) part(e *message.Entity, depth int) {
	w.Count++
	if depth > maxDepth || w.Count > maxParts {
		w.Truncated = true
		return
	}
	media, params := header.ContentType(e.Header.Get("Content-Type"))
	if media == "" {
		media = "text/plain"
	}
	if mr := e.MultipartReader(); mr != nil {
		w.multipart(mr, depth)
		return
	}
	disposition, dparams := header.ContentType(e.Header.Get("Content-Disposition"))
	name := header.DecodeText(dparams["filename"])
	if name == "" {
		name = header.DecodeText(params["name"])
	}
	body := &counter{r: e.Body}
	text := strings.HasPrefix(media, "text/")
	switch {
	case media == "message/rfc822" || media == "message/global":
		w.message(body, depth+1)
	case text:
		w.links(body)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		w.Truncated = true
	}
	if !text || disposition == "attachment" || name != "" {
		w.Attachments = append(w.Attachments, Attachment{Filename: clip(name), ContentType: clip(media), Size: body.n})
	}
}

// clip keeps the end of a text, where the type of a file is told. Names may be
// as long as a header, in each of a thousand parts.
func clip(s string) string {
	if len(s) <= maxName {
		return s
	}
	s = s[len(s)-maxName:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return strings.Clone(s) // lets go of the rest
}

func (w *walker) multipart(mr message.MultipartReader, depth int) {
	for w.Count <= maxParts {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if p == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
			w.Truncated = true
			return
		}
		w.part(p, depth+1)
	}
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// maxURL is how much of a link is looked at.
const maxURL = 512

// links collects the hosts of http and https links in a text.
func (w *walker) links(r io.Reader) {
	buf := make([]byte, 0, 32<<10)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		done := err != nil
		keep := w.linksIn(buf, done)
		buf = buf[:copy(buf, buf[keep:])]
		if done {
			return // the caller meets the error again
		}
	}
}

// linksIn looks for links in b and gives how much of it is done with. Unless it
// is the last stretch, a link near its end is left for the next look.
func (w *walker) linksIn(b []byte, last bool) (done int) {
	at := 0
	for {
		i := bytes.Index(b[at:], []byte("//"))
		if i < 0 {
			if last {
				return len(b)
			}
			return max(at, len(b)-maxURL)
		}
		i += at
		if !last && len(b)-i < maxURL && i >= maxURL {
			return i - len("https:")
		}
		at = i + 2
		scheme := strings.ToLower(string(b[max(0, i-6):i]))
		if strings.HasSuffix(scheme, "http:") || strings.HasSuffix(scheme, "https:") {
			w.host(b[at:min(len(b), at+maxURL)])
		}
	}
}

// host notes the host of a link whose text after "//" begins with b.
func (w *walker) host(b []byte) {
	if i := bytes.IndexAny(b, "/?#\\\"'<>()[]{}|^` \t\r\n"); i >= 0 && b[i] != '[' {
		b = b[:i]
	} else if i == 0 { // an IPv6 literal
		if end := bytes.IndexByte(b, ']'); end > 0 {
			b = b[:end+1]
		}
	}
	u, err := url.Parse("http://" + strings.TrimRight(string(b), ".,;:!"))
	if err != nil || u.Hostname() == "" {
		return
	}
	h := strings.ToLower(u.Hostname())
	if d, err := mail.ParseDomain(h); err == nil {
		h = d
	}
	if len(w.hosts) >= maxHosts && !w.hosts[h] {
		w.Truncated = true
		return
	}
	w.hosts[h] = true
}
