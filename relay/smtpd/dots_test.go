package smtpd

import (
	"bufio"
	"bytes"
	"io"
	"net/textproto"
	"strings"
	"testing"
)

// feed runs in through dots as it would arrive in pieces of the sizes given,
// over and over. It returns the message, what is left over, and whether the
// end was found.
func feed(d *dots, in []byte, sizes ...int) (msg, rest []byte, end bool) {
	var buf []byte
	for i := 0; ; i++ {
		for len(buf) > 0 {
			run, used, done := d.next(buf)
			msg = append(msg, run...)
			buf = buf[used:]
			if done {
				return msg, append(buf, in...), true
			}
			if used == 0 {
				break
			}
		}
		if len(in) == 0 {
			return msg, buf, false
		}
		n := min(len(in), max(1, sizes[i%len(sizes)]))
		buf, in = append(buf, in[:n]...), in[n:]
	}
}

// slowDots is what RFC 5321, section 4.5.2, says, octet by octet over all.
func slowDots(in []byte) (msg, rest []byte, end bool, f fault) {
	note := func(g fault) {
		if f == faultNone {
			f = g
		}
	}
	bol := true
	for i := 0; i < len(in); {
		if bol && in[i] == '.' {
			if bytes.HasPrefix(in[i:], []byte(".\r\n")) {
				return msg, in[i+3:], true, f
			}
			i++
			bol = false
			continue
		}
		crlf := bytes.HasPrefix(in[i:], []byte("\r\n"))
		switch {
		case crlf:
			msg = append(msg, "\r\n"...)
			i += 2
		default:
			if in[i] == '\n' {
				note(faultBareLF)
			}
			if in[i] == '\r' {
				note(faultBareCR)
			}
			msg = append(msg, in[i])
			i++
		}
		bol = crlf
	}
	return msg, nil, false, f
}

func FuzzDots(f *testing.F) {
	for _, s := range []string{"", ".\r\n", "a\r\n.\r\nQUIT\r\n", "..\r\n.\r\n", ".\r.\r\n", "\n.\r\n\r\n.\r\n", "\r\r\n.\r\n", ".\r\r\n.\r\n", "x\r\n..\r\n...x\r\n\r\n.\r\n"} {
		f.Add([]byte(s), uint8(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, a, b uint8) {
		wantMsg, wantRest, wantEnd, wantFault := slowDots(in)
		var d dots
		msg, rest, end := feed(&d, in, int(a%7)+1, int(b%5)+1)
		if end != wantEnd {
			t.Fatalf("end is %t, want %t", end, wantEnd)
		}
		if !end {
			return
		}
		if d.fault != wantFault {
			t.Fatalf("fault %d, want %d", d.fault, wantFault)
		}
		if !bytes.Equal(msg, wantMsg) || !bytes.Equal(rest, wantRest) {
			t.Fatalf("message %q rest %q, want %q %q", msg, rest, wantMsg, wantRest)
		}
		if d.fault != faultNone {
			return
		}
		// The standard library reads the same in what is well-formed. It turns
		// CRLF into LF, so that is undone, and it cannot know of a CR at the end.
		std, err := io.ReadAll(textproto.NewReader(bufio.NewReader(bytes.NewReader(in))).DotReader())
		if got := strings.ReplaceAll(string(std), "\n", "\r\n"); err != nil || got != string(msg) {
			t.Fatalf("message %q, net/textproto reads %q, %v", msg, got, err)
		}
	})
}

func TestChunkFaults(t *testing.T) {
	for in, want := range map[string]fault{
		"":                     faultNone,
		"a\r\nb\r\n":           faultNone,
		"a\r\n|b\r|\n|\r|\n|c": faultNone,
		"a\r|b":                faultBareCR,
		"a\r|\r\n":             faultBareCR,
		"a\r":                  faultBareCR,
		"|\n":                  faultBareLF,
		"a\r\n|\n":             faultBareLF,
		"\x00":                 faultNUL,
		strings.Repeat(strings.Repeat("x", 1<<16)+"|", 16):           faultNone,
		strings.Repeat(strings.Repeat("x", 1<<16)+"|", 16) + "x\r\n": faultLong,
		strings.Repeat(strings.Repeat("x", 1<<16)+"\r\n|", 32):       faultNone,
	} {
		var l lines
		for p := range strings.SplitSeq(in, "|") {
			l.chunk([]byte(p))
		}
		l.finish()
		if l.fault != want {
			t.Errorf("%.40q: fault %d, want %d", in, l.fault, want)
		}
	}
}

func TestDotsLongLine(t *testing.T) {
	for n, want := range map[int]fault{maxTextLine: faultNone, maxTextLine + 1: faultLong} {
		var d dots
		in := append(bytes.Repeat([]byte("x"), n), "\r\n.\r\n"...)
		if _, _, end := feed(&d, in, 4096, 1); !end || d.fault != want {
			t.Errorf("a line of %d: end %t fault %d, want %d", n, end, d.fault, want)
		}
	}
}

func BenchmarkDots(b *testing.B) {
	in := append(bytes.Repeat([]byte(strings.Repeat("x", 74)+"\r\n"), 860), ".\r\n"...)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			var d dots
			if _, used, _ := d.next(in); used != len(in)-3 {
				b.Fatal(used)
			}
		}
	})
	b.Run("textproto", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			io.Copy(io.Discard, textproto.NewReader(bufio.NewReader(bytes.NewReader(in))).DotReader())
		}
	})
}
