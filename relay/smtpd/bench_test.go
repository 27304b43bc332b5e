package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The load for benchmarks comes from a process of its own, so that the CPU time
// of this one is the server's. It is this test binary with BENCH_CLIENT set to
// "address tls? messages size conns", or "address tls? idle count".
func TestMain(m *testing.M) {
	if job := os.Getenv("BENCH_CLIENT"); job != "" {
		if err := benchClient(strings.Fields(job)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func benchClient(job []string) error {
	dial := func() (net.Conn, *bufio.Reader, error) {
		c, err := net.Dial("tcp", job[0])
		if err == nil && job[1] == "tls" {
			c = tls.Client(c, clientTLS())
		}
		if err != nil {
			return nil, nil, err
		}
		r := bufio.NewReader(c)
		if err := benchReply(r, "220 "); err != nil {
			return nil, nil, err
		}
		fmt.Fprint(c, "EHLO bench.example\r\n")
		return c, r, benchReply(r, "250")
	}
	n, _ := strconv.Atoi(job[3])
	if job[2] == "idle" {
		for range n {
			c, _, err := dial()
			if err != nil {
				return err
			}
			defer c.Close()
		}
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		return nil
	}
	messages, _ := strconv.Atoi(job[2])
	conns, _ := strconv.Atoi(job[4])
	body := benchBody(n)
	errs := make(chan error, conns)
	for range conns {
		go func() {
			c, r, err := dial()
			if err == nil {
				defer c.Close()
				fmt.Fprint(c, "AUTH PLAIN AGFjbWUvYXBwAGszeS1vZi10aGUtYXBw\r\n")
				err = benchReply(r, "235")
			}
			for i := 0; err == nil && i < messages/conns; i++ {
				err = benchSend(c, r, body)
			}
			errs <- err
		}()
	}
	var err error
	for range conns {
		err = errors.Join(err, <-errs)
	}
	return err
}

func benchBody(n int) []byte {
	var b bytes.Buffer
	b.WriteString("From: a@acme.example\r\nTo: b@example.org\r\nSubject: bench\r\n\r\n")
	for b.Len() < n {
		b.WriteString("invoice payment received thank you for your order number the attached\r\n")
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

func benchSend(c net.Conn, r *bufio.Reader, body []byte) error {
	if _, err := io.WriteString(c, "MAIL FROM:<a@acme.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"); err != nil {
		return err
	}
	for _, want := range []string{"250", "250", "354"} {
		if err := benchReply(r, want); err != nil {
			return err
		}
	}
	if _, err := c.Write(body); err != nil {
		return err
	}
	return benchReply(r, "250")
}

func benchReply(r *bufio.Reader, want string) error {
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(l, want) {
			return fmt.Errorf("reply %q, want %q", l, want)
		}
		if l[3] == ' ' {
			return nil
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchChild(b *testing.B, args ...any) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "BENCH_CLIENT="+strings.TrimSpace(fmt.Sprintln(args...)))
	cmd.Stderr = os.Stderr
	return cmd
}

// BenchmarkDoor sends whole messages over ten connections and tells the
// server's CPU time for each. Both servers write to nothing.
func BenchmarkDoor(b *testing.B) {
	for _, how := range []string{"tls", "plain"} {
		for _, size := range []int{4 << 10, 64 << 10} {
			for _, who := range []string{"behalf", "go-smtp"} {
				b.Run(fmt.Sprintf("%s/%dKiB/%s", how, size>>10, who), func(b *testing.B) {
					var addr string
					if who == "behalf" {
						addr = benchDoor(b, how == "tls")
					} else {
						addr = benchGoSMTP(b, how == "tls")
					}
					n := max(b.N, 10)
					child := benchChild(b, addr, how, n, size, 10)
					b.SetBytes(int64(size))
					before := cpu()
					b.ResetTimer()
					if err := child.Run(); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					b.ReportMetric(float64((cpu()-before).Microseconds())/float64(n), "cpu-us/msg")
				})
			}
		}
	}
}

// benchDoor serves our door; without TLS its sessions are told that they have it.
func benchDoor(b *testing.B, useTLS bool) string {
	o := testOptions()
	o.Implicit, o.MaxMessages = useTLS, 1<<30
	in := &fakeIntake{discard: true}
	if useTLS {
		return serve(b, in, o)
	}
	srv, err := New(in, o)
	if err != nil {
		b.Fatal(err)
	}
	ln := benchListen(b)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				s := newSession(srv, c)
				defer c.Close()
				err := s.open(context.Background())
				s.client.TLS = "none"
				if err == nil {
					err = s.dialog(context.Background())
				}
				s.logout(context.Background(), err)
				s.leave()
			})
		}
	})
	b.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func benchListen(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return ln
}

func benchGoSMTP(b *testing.B, useTLS bool) string {
	srv := smtp.NewServer(goBackend{})
	srv.Domain, srv.AllowInsecureAuth = "relay.example", true
	srv.MaxLineLength, srv.MaxMessageBytes = 64<<10, 35<<20
	ln := benchListen(b)
	addr := ln.Addr().String()
	if useTLS {
		ln = tls.NewListener(ln, serverTLS())
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	b.Cleanup(func() { srv.Close(); <-done })
	return addr
}

// goBackend does for go-smtp what fakeIntake does for us.
type goBackend struct{}

func (goBackend) NewSession(*smtp.Conn) (smtp.Session, error) { return goSession{}, nil }

type goSession struct{}

func (goSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (goSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(string, string, string) error { return nil }), nil
}
func (goSession) Reset()                                   {}
func (goSession) Logout() error                            { return nil }
func (goSession) Mail(string, *smtp.MailOptions) error     { return nil }
func (goSession) Rcpt(_ string, _ *smtp.RcptOptions) error { return nil }
func (goSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// BenchmarkIdle tells what a session costs that waits for a command.
func BenchmarkIdle(b *testing.B) {
	const n = 1000
	for _, how := range []string{"plain", "tls"} {
		for _, who := range []string{"behalf", "go-smtp"} {
			b.Run(how+"/"+who, func(b *testing.B) {
				for b.Loop() {
					addr := ""
					if who == "go-smtp" {
						addr = benchGoSMTP(b, how == "tls")
					} else {
						o := testOptions()
						o.Implicit, o.MaxPerIP = how == "tls", 2*n
						addr = serve(b, &fakeIntake{}, o)
					}
					before := inUse()
					child := benchChild(b, addr, how, "idle", n)
					stdin, err := child.StdinPipe()
					if err != nil {
						b.Fatal(err)
					}
					stdout, err := child.StdoutPipe()
					if err != nil {
						b.Fatal(err)
					}
					if err := child.Start(); err != nil {
						b.Fatal(err)
					}
					bufio.NewReader(stdout).ReadString('\n')
					after := inUse()
					stdin.Close()
					if err := child.Wait(); err != nil {
						b.Fatal(err)
					}
					b.ReportMetric((after-before)/n/1024, "KiB/session")
				}
			})
		}
	}
}

// inUse is heap and stacks after collection.
func inUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}
