package api

import (
	"bytes"
	"io"
)

// crlf writes lines that end in LF or CRLF with CRLF. People post files as
// their editor left them; SMTP clients have no such excuse.
type crlf struct {
	w  io.Writer
	cr bool // the last octet written was CR
}

func newCRLF(w io.Writer) *crlf { return &crlf{w: w} }

// Write implements io.Writer.
func (c *crlf) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			n, err := c.w.Write(p)
			c.cr = p[len(p)-1] == '\r'
			return written + n, err
		}
		whole := i > 0 && p[i-1] == '\r' || i == 0 && c.cr
		line := p[:i]
		if whole {
			line = p[:i+1]
		}
		if len(line) > 0 {
			if n, err := c.w.Write(line); err != nil {
				return written + n, err
			}
		}
		if !whole {
			if _, err := c.w.Write([]byte("\r\n")); err != nil {
				return written, err
			}
		}
		c.cr = false
		written += i + 1
		p = p[i+1:]
	}
	return written, nil
}
