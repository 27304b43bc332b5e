package api

import (
	"bytes"
	"io"
)

// crlf writes lines that end in LF or CRLF with CRLF. People post files as
// their editor left them; SMTP clients have no such excuse. A CR that ends no
// line is refused, for some servers would take it for an end.
type crlf struct {
	w  io.Writer
	cr bool // a CR came last and is not yet written
}

func newCRLF(w io.Writer) *crlf { return &crlf{w: w} }

// Write implements io.Writer.
func (c *crlf) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		if c.cr && p[0] != '\n' {
			return all - len(p), errBareCR()
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			_, err := c.w.Write(p)
			return all, err
		}
		if i > 0 {
			if _, err := c.w.Write(p[:i]); err != nil {
				return all - len(p), err
			}
		}
		if c.cr = p[i] == '\r'; !c.cr {
			if _, err := io.WriteString(c.w, "\r\n"); err != nil {
				return all - len(p), err
			}
		}
		p = p[i+1:]
	}
	return all, nil
}

// Close ends the message.
func (c *crlf) Close() error {
	if c.cr {
		return errBareCR()
	}
	return nil
}

func errBareCR() error {
	return bad("every line must end in LF or CRLF, but a bare CR was found; have your program write \\r\\n")
}
