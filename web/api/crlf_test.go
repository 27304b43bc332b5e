package api

import (
	"bytes"
	"strings"
	"testing"
)

func TestCRLF(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a\n": "a\r\n", "a\r\n": "a\r\n", "\n\n": "\r\n\r\n", "\r\n\n\r\n": "\r\n\r\n\r\n", "a\nb\r\nc": "a\r\nb\r\nc",
		"a\r": "bare", "a\rb": "bare", "a\r\r\n": "bare", "\r\r": "bare",
	} {
		for step := 1; step <= len(in)+1; step++ { // however it is cut
			var out bytes.Buffer
			c := newCRLF(&out)
			var err error
			for rest := in; rest != "" && err == nil; rest = rest[min(step, len(rest)):] {
				_, err = c.Write([]byte(rest[:min(step, len(rest))]))
			}
			if err == nil {
				err = c.Close()
			}
			switch {
			case want == "bare" && (err == nil || !strings.Contains(err.Error(), "bare CR")):
				t.Errorf("%q in steps of %d: %v, %q", in, step, err, out.String())
			case want != "bare" && (err != nil || out.String() != want):
				t.Errorf("%q in steps of %d: %v, %q", in, step, err, out.String())
			}
		}
	}
}

// FuzzCRLF demands that whatever comes out has no line end but CRLF.
func FuzzCRLF(f *testing.F) {
	f.Add([]byte("a\r\nb\nc\rd"), 1)
	f.Add([]byte("\r\n.\r\n"), 2)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		step = min(max(step, 1), len(in)+1)
		var out bytes.Buffer
		c := newCRLF(&out)
		for rest := in; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			if _, err := c.Write(rest[:min(step, len(rest))]); err != nil {
				return
			}
		}
		if c.Close() != nil {
			return
		}
		rest := strings.ReplaceAll(out.String(), "\r\n", "")
		if strings.ContainsAny(rest, "\r\n") {
			t.Errorf("%q became %q", in, out.String())
		}
		if want := strings.ReplaceAll(string(in), "\r\n", "\n"); strings.ReplaceAll(out.String(), "\r\n", "\n") != want {
			t.Errorf("%q became %q", in, out.String())
		}
	})
}
