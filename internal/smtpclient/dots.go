package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
)

// errBareLine stops a message whose lines do not end in CRLF: two servers could
// disagree about where it ends.
var errBareLine = errors.New("the message has a bare CR or LF")

// dotWriter writes the content of DATA: it doubles a dot that begins a line
// (RFC 5321, section 4.5.2) and refuses bare CR and LF. Slices between dots are
// handed on whole.
type dotWriter struct {
	w    *bufio.Writer
	wire error // of the connection, as against of what fills it
	// What the last octet was; at the start it counts as a line end.
	cr, mid bool // a CR that awaits its LF; in the middle of a line
}

func (d *dotWriter) Write(p []byte) (int, error) {
	n := len(p)
	crs := 0 // CRLFs seen whole in p
	from := 0
	for i := 0; i < len(p); {
		if d.cr && p[i] != '\n' {
			return 0, errBareLine
		}
		if !d.mid && !d.cr && p[i] == '.' {
			if err := d.put(p[from:i]); err != nil {
				return 0, err
			}
			if err := d.put(dot); err != nil {
				return 0, err
			}
			from = i
		}
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			d.mid, d.cr = true, p[len(p)-1] == '\r'
			break
		}
		j += i
		switch {
		case j > i && p[j-1] == '\r':
			crs++
		case j == i && d.cr:
		default:
			return 0, errBareLine
		}
		d.mid, d.cr = false, false
		i = j + 1
	}
	if d.cr {
		crs++ // the last one; its LF must come first in the next slice
	}
	if bytes.Count(p, cr) != crs {
		return 0, errBareLine
	}
	if err := d.put(p[from:]); err != nil {
		return 0, err
	}
	return n, nil
}

// WriteUndotted is Write for text of which the caller knows that all its lines end in
// CRLF, but perhaps the last, and that none begins with a dot.
func (d *dotWriter) WriteUndotted(p []byte) (int, error) {
	if d.mid || d.cr || len(p) == 0 || p[0] == '.' {
		return d.Write(p)
	}
	d.mid = !bytes.HasSuffix(p, crlf)
	if err := d.put(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

var (
	cr    = []byte{'\r'}
	dot   = []byte{'.'}
	crlf  = []byte("\r\n")
	final = []byte(".\r\n")
)

func (d *dotWriter) put(p []byte) error {
	if _, err := d.w.Write(p); err != nil {
		d.wire = err
		return err
	}
	return nil
}

// end ends the last line, if it is open, and writes the final dot.
func (d *dotWriter) end() error {
	if d.cr {
		return errBareLine
	}
	if d.mid {
		if err := d.put(crlf); err != nil {
			return err
		}
	}
	return d.put(final)
}
