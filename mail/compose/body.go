package compose

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"strconv"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// composer writes the body: mixed(related(alternative(text, html), inline…),
// attachments…), with only those containers that hold more than one thing.
type composer struct {
	m    *Message
	w    io.Writer
	used int // boundaries given out
	seed string
}

// node is a part: a container with children, or a leaf.
type node struct {
	media    string // of a container
	children []node
	head     message.Header // of a leaf
	content  io.Reader
	boundary string
}

func (c *composer) body() error {
	var inline, files []node
	for _, a := range c.m.Attachments {
		n := leafOf(a)
		if a.Inline && c.m.HTML != "" {
			inline = append(inline, n)
		} else {
			files = append(files, n)
		}
	}
	var n node
	switch {
	case c.m.HTML == "":
		n = textNode("plain", c.m.Text)
	case c.m.Text == "":
		n = group("multipart/related", textNode("html", c.m.HTML), inline)
	default:
		rich := group("multipart/related", textNode("html", c.m.HTML), inline)
		n = node{media: "multipart/alternative", children: []node{textNode("plain", c.m.Text), rich}}
	}
	n = group("multipart/mixed", n, files)
	if err := textproto.WriteHeader(c.w, c.head(&n)); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	if err := c.content(c.w, n); err != nil {
		return err
	}
	if n.children == nil && n.head.Get("Content-Transfer-Encoding") == "base64" {
		_, err := io.WriteString(c.w, "\r\n") // the last line, which no boundary ends
		return err
	}
	return nil
}

// group puts first and others into a container, if there are others.
func group(media string, first node, others []node) node {
	if len(others) == 0 {
		return first
	}
	return node{media: media, children: append([]node{first}, others...)}
}

func textNode(subtype, text string) node {
	var h message.Header
	h.SetContentType("text/"+subtype, map[string]string{"charset": "utf-8"})
	text = crlf(text)
	h.Set("Content-Transfer-Encoding", textEncoding(text))
	return node{head: h, content: strings.NewReader(text)}
}

// crlf gives text CRLF line ends and one at its end.
func crlf(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return strings.ReplaceAll(s, "\n", "\r\n")
}

// textEncoding is 7bit where nothing needs encoding, else quoted-printable, or
// base64 where most of the text would have to be quoted.
func textEncoding(s string) string {
	high, line, long := 0, 0, false
	for i := range len(s) {
		line++
		switch {
		case s[i] >= 0x80 || s[i] == 0:
			high++
		case s[i] == '\n':
			line = 0
		}
		long = long || line > 78
	}
	switch {
	case high*3 > len(s):
		return "base64"
	case high > 0 || long || strings.HasPrefix(s, "From ") || strings.Contains(s, "\nFrom "):
		return "quoted-printable"
	}
	return "7bit"
}

func leafOf(a Attachment) node {
	var h message.Header
	media, params := "application/octet-stream", map[string]string{}
	if a.ContentType != "" {
		media, params, _ = mime.ParseMediaType(a.ContentType)
	}
	disposition := "attachment"
	if a.Inline {
		disposition = "inline"
	}
	var dparams map[string]string
	if a.Filename != "" {
		name := baseName(a.Filename)
		dparams = map[string]string{"filename": name}
		if ascii(name) {
			params["name"] = name // for readers that look there only
		}
	}
	// RFC 2231 for names outside ASCII, which go-message would give as encoded words.
	h.Set("Content-Type", mime.FormatMediaType(media, params))
	h.Set("Content-Disposition", mime.FormatMediaType(disposition, dparams))
	h.Set("Content-Transfer-Encoding", "base64")
	if a.ContentID != "" {
		h.Set("Content-Id", "<"+a.ContentID+">")
	}
	return node{head: h, content: a.Content}
}

// baseName drops folders from a file name.
func baseName(s string) string {
	if i := strings.LastIndexAny(s, `/\`); i >= 0 && i < len(s)-1 {
		s = s[i+1:]
	}
	return s
}

// boundary is fresh; no line of an encoded part can look like it, since "=_"
// stands in neither base64 nor quoted-printable.
func (c *composer) boundary() string {
	if c.seed == "" {
		c.seed = c.m.Boundary
		if c.seed == "" {
			c.seed = rand.Text()
		}
	}
	c.used++
	sum := sha256.Sum256([]byte(c.seed + " " + strconv.Itoa(c.used)))
	return "=_" + hex.EncodeToString(sum[:15])
}

// head gives the MIME fields of a part; a container gets its boundary.
func (c *composer) head(n *node) textproto.Header {
	if n.children == nil {
		return n.head.Header
	}
	n.boundary = c.boundary()
	var h message.Header
	h.SetContentType(n.media, map[string]string{"boundary": n.boundary})
	return h.Header
}

// content writes what stands below the empty line of a part.
func (c *composer) content(w io.Writer, n node) error {
	if n.children == nil {
		return encode(w, n)
	}
	mw := textproto.NewMultipartWriter(w)
	if err := mw.SetBoundary(n.boundary); err != nil {
		return fmt.Errorf("begin a container: %w", err)
	}
	for _, child := range n.children {
		p, err := mw.CreatePart(c.head(&child))
		if err != nil {
			return fmt.Errorf("begin a part: %w", err)
		}
		if err := c.content(p, child); err != nil {
			return err
		}
	}
	if err := mw.Close(); err != nil {
		return fmt.Errorf("end a container: %w", err)
	}
	return nil
}

// encode writes the content of a leaf.
func encode(w io.Writer, n node) error {
	var e io.WriteCloser
	switch n.head.Get("Content-Transfer-Encoding") {
	case "base64":
		e = base64.NewEncoder(base64.StdEncoding, &lines{w: w})
	case "quoted-printable":
		e = quotedprintable.NewWriter(w)
	default:
		e = plain{w}
	}
	if _, err := io.Copy(e, n.content); err != nil {
		return fmt.Errorf("write a part: %w", err)
	}
	if err := e.Close(); err != nil {
		return fmt.Errorf("write a part: %w", err)
	}
	return nil
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// lines breaks base64 into lines of 76.
type lines struct {
	w   io.Writer
	col int
	buf []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.buf = l.buf[:0]
	for rest := p; len(rest) > 0; {
		if l.col == 76 {
			l.buf = append(l.buf, "\r\n"...)
			l.col = 0
		}
		n := min(76-l.col, len(rest))
		l.buf = append(l.buf, rest[:n]...)
		l.col += n
		rest = rest[n:]
	}
	if _, err := l.w.Write(l.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}
