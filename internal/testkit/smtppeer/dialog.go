package smtppeer

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Dialog runs a server that follows a script: connection by connection, line by
// line. Every line of a script is one of
//
//	S: text     send the line
//	C: text     expect the line; * stands for any text
//	DATA        expect lines up to a final dot
//	CLOSE       close the connection
//	STALL       say nothing until the client goes away
//	---         the next connection
//	# remark
//
// A line that was expected and did not come fails the test, as does a script
// that was not followed to its end.
func Dialog(t testing.TB, script string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scenes := strings.Split(script, "\n---\n")
	played := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	open := map[net.Conn]bool{}
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i, scene := range scenes {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			play(t, c, i+1, strings.Split(scene, "\n"))
			c.Close()
			played++
		}
	}()
	t.Cleanup(func() {
		if !waitFor(&wg, 20*time.Second) {
			t.Error("the script has not come to its end")
		}
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
		if played < len(scenes) {
			t.Errorf("the script has %d connections, %d were made", len(scenes), played)
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// waitFor reports whether wg is done in time.
func waitFor(wg *sync.WaitGroup, d time.Duration) bool {
	done := make(chan bool)
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// DialogFile is Dialog with the script in a file.
func DialogFile(t testing.TB, name string) netip.AddrPort {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return Dialog(t, string(b))
}

func play(t testing.TB, c net.Conn, n int, lines []string) {
	r := bufio.NewReader(c)
	for _, l := range lines {
		l = strings.TrimRight(l, "\r")
		switch {
		case strings.HasPrefix(l, "S: "):
			io.WriteString(c, l[3:]+"\r\n")
		case strings.HasPrefix(l, "C: "):
			got, err := r.ReadString('\n')
			got = strings.TrimRight(got, "\r\n")
			if err != nil {
				t.Errorf("connection %d: want %q, got %v", n, l[3:], err)
				return
			}
			if !match(l[3:], got) {
				t.Errorf("connection %d: want %q, got %q", n, l[3:], got)
			}
		case l == "DATA":
			for {
				got, err := r.ReadString('\n')
				if err != nil {
					t.Errorf("connection %d: in DATA: %v", n, err)
					return
				}
				if got == ".\r\n" {
					break
				}
			}
		case l == "CLOSE":
			return
		case l == "STALL":
			io.Copy(io.Discard, r)
			return
		case l == "", strings.HasPrefix(l, "#"):
		default:
			t.Errorf("the script has a line %q", l)
		}
	}
}

// match compares with a pattern in which * is any text.
func match(pattern, s string) bool {
	part := strings.Split(pattern, "*")
	if len(part) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, part[0]) {
		return false
	}
	s = s[len(part[0]):]
	for _, p := range part[1 : len(part)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, part[len(part)-1])
}
