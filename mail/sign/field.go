package sign

import (
	"encoding/base64"
	"strconv"
	"time"
)

// lineWanted is how long the lines of a signature field may be.
const lineWanted = 76

// folder writes the tags of a signature field, folded.
type folder struct {
	b   []byte
	col int
}

// room begins a new line if n octets and a blank do not fit in this one.
func (f *folder) room(n int) {
	if f.col+1+n > lineWanted {
		f.b = append(f.b, "\r\n"...)
		f.col = 0
	}
}

// tag writes " name=value;".
func (f *folder) tag(name, value string) {
	f.room(len(name) + len(value) + 2)
	start := len(f.b)
	f.b = append(f.b, ' ')
	f.b = append(append(append(f.b, name...), '='), value...)
	f.b = append(f.b, ';')
	f.col += len(f.b) - start
}

func (f *folder) seconds(name string, t time.Time) {
	var digits [20]byte
	f.tag(name, string(strconv.AppendInt(digits[:0], t.Unix(), 10)))
}

// names writes h=, which is folded after its colons.
func (f *folder) names(names []string) {
	for i, name := range names {
		if i == 0 {
			f.room(len("h=") + len(name) + 1)
			f.b = append(f.b, " h="...)
			f.col += len(" h=")
		} else if f.col+len(name)+1 > lineWanted {
			f.b = append(f.b, "\r\n "...)
			f.col = 1
		}
		end := byte(':')
		if i == len(names)-1 {
			end = ';'
		}
		f.b = append(append(f.b, name...), end)
		f.col += len(name) + 1
	}
}

// head is the signature field up to and with "b=", folded.
func head(k Key, is kind, names []string, bodyHash [32]byte, at time.Time, o *Options) []byte {
	f := folder{b: make([]byte, 0, 896)}
	f.b = append(append(append(f.b, "DKIM-Signature: v=1; a="...), is.algorithm...), "; c=relaxed/relaxed;"...)
	f.col = len(f.b)
	f.tag("d", k.Domain)
	f.tag("s", k.Selector)
	f.seconds("t", at)
	if !o.Expires.IsZero() {
		f.seconds("x", o.Expires)
	}
	f.names(names)
	var bh [44]byte
	base64.StdEncoding.Encode(bh[:], bodyHash[:])
	f.tag("bh", string(bh[:]))
	return append(f.b, "\r\n b="...)
}

// The signature's base64 stands in lines of this length, the first behind " b=".
const base64Line = 72

// signatureField is the length of what appendSignature adds.
func signatureField(octets int) int {
	n := base64.StdEncoding.EncodedLen(octets)
	return n + (n-1)/base64Line*len("\r\n ") + len("\r\n")
}

// appendSignature appends the base64 of sig, 54 octets of which make a line.
func appendSignature(out, sig []byte) []byte {
	const octets = base64Line / 4 * 3
	for len(sig) > octets {
		out = append(base64.StdEncoding.AppendEncode(out, sig[:octets]), "\r\n "...)
		sig = sig[octets:]
	}
	return append(base64.StdEncoding.AppendEncode(out, sig), "\r\n"...)
}
