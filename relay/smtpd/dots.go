package smtpd

import "bytes"

// A fault is what makes the content of a message unacceptable whatever it says.
type fault uint8

const (
	faultNone   fault = iota
	faultBareLF       // LF without CR before it
	faultBareCR       // CR without LF after it
	faultNUL          // a NUL outside BINARYMIME
	faultLong         // a line over maxTextLine
)

// maxTextLine bounds one line of a message, in octets. RFC 5321 allows 998;
// longer ones are re-encoded on the way out, so only what no program writes
// on purpose is refused.
const maxTextLine = 1 << 20

// lines checks a message's line ends as it passes by in pieces. It remembers
// the first fault.
type lines struct {
	fault fault
	len   int  // octets of the line so far
	cr    bool // the last octet was a CR (BDAT only; dots holds it back)
}

func (l *lines) found(f fault) {
	if l.fault == faultNone {
		l.fault = f
	}
}

// text takes octets that hold no CR.
func (l *lines) text(p []byte) {
	l.len += len(p)
	if l.len > maxTextLine {
		l.found(faultLong)
	}
	if bytes.IndexByte(p, '\n') >= 0 {
		l.found(faultBareLF)
	}
}

// chunk takes the next piece of a message that is not dot-stuffed.
func (l *lines) chunk(p []byte) {
	if bytes.IndexByte(p, 0) >= 0 {
		l.found(faultNUL)
	}
	for len(p) > 0 {
		if l.cr {
			l.cr = false
			if p[0] != '\n' {
				l.found(faultBareCR)
			} else {
				l.len, p = 0, p[1:]
				continue
			}
		}
		i := bytes.IndexByte(p, '\r')
		if i < 0 {
			l.text(p)
			return
		}
		l.text(p[:i])
		l.cr, p = true, p[i+1:]
	}
}

// finish tells that the message is complete.
func (l *lines) finish() {
	if l.cr {
		l.found(faultBareCR)
	}
}

// dots undoes dot-stuffing and finds the end of DATA (RFC 5321, section 4.5.2):
// the octets CRLF "." CRLF, where the first CRLF may be the one that ended the
// DATA command. The zero dots stands at the beginning of a line.
type dots struct {
	lines
	inLine bool // not at the beginning of a line
}

// next takes the beginning of p, which is what came and was not used so far.
// It returns the octets of the message at its front, as a slice of p, how many
// octets of p are done with, and whether the message has ended. When it used
// none, it must see more; that is so for three octets at most.
func (d *dots) next(p []byte) (run []byte, used int, end bool) {
	start := 0
	if !d.inLine && len(p) > 0 && p[0] == '.' {
		switch {
		case len(p) == 1, len(p) == 2 && p[1] == '\r':
			return nil, 0, false
		case p[1] == '\r' && p[2] == '\n':
			return nil, 3, true
		}
		start, d.inLine = 1, true
	}
	for i := start; i < len(p); {
		j := bytes.IndexByte(p[i:], '\r')
		if j < 0 {
			d.text(p[i:])
			d.inLine = true
			i = len(p)
			return p[start:i], i, false
		}
		d.text(p[i : i+j])
		i += j
		switch {
		case i+1 == len(p): // the CR waits for what follows it
			return p[start:i], i, false
		case p[i+1] != '\n':
			d.found(faultBareCR)
			d.inLine = true
			i++
		default:
			d.inLine, d.len = false, 0
			i += 2
			if i < len(p) && p[i] == '.' {
				return p[start:i], i, false
			}
		}
	}
	return p[start:], len(p), false
}
