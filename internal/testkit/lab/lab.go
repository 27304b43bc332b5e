// Package lab runs real programs for the end-to-end tests: the relay itself and
// other people's servers, clients and verifiers around it. Everything listens
// on loopback at ports that were free, lives in a folder of its own, is stopped
// by its process when the test ends, and shows its log when the test failed.
package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"behalf/internal/testkit/need"
)

// Missing skips the test for want of something, unless the environment says
// CI=true: there nothing may be missing.
func Missing(t testing.TB, what string) {
	t.Helper()
	need.Missing(t, what, " is missing: scripts/install-test-deps installs it")
}

// Program finds an installed program, or skips the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/bin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	Missing(t, name)
	return ""
}

// Root skips the test for anyone but root, whom servers need that change their user.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "being root")
	}
}

// Top is the folder of the module.
func Top(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the working folder")
	return ""
}

// Dir makes a folder that goes with the test. Unlike t.TempDir its path is
// short, as UNIX sockets want it, and servers that gave up root can enter it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the lab's folder: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Write puts a file that everyone can read into a folder, making that if need
// be, and gives its path.
func Write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// nextIP gives every server an address of its own, so that all exchangers of a
// test can share one port, as exchangers do.
var nextIP atomic.Uint32

// IP gives a loopback address that no other server of this process has.
func IP() string {
	n := nextIP.Add(1) + uint32(os.Getpid()%200)<<8
	return netip.AddrFrom4([4]byte{127, 1 + byte(n>>16), byte(n >> 8), byte(n)}).String()
}

// Port gives a port that is free for TCP and UDP at every loopback address asked
// so far. Another process may take it before it is used; ports below the range
// for outgoing connections make that unlikely.
func Port(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 10000 + int(nextPort.Add(1)+uint32(os.Getpid()*37))%20000
		ln, err := net.Listen("tcp", "0.0.0.0:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		pc, err := net.ListenPacket("udp", "0.0.0.0:"+strconv.Itoa(port))
		ln.Close()
		if err != nil {
			continue
		}
		pc.Close()
		return port
	}
	t.Fatal("no free port found")
	return 0
}

var nextPort atomic.Uint32

// patience is how long a message may take to arrive on a busy machine.
const patience = time.Minute

// Addr joins a host and a port.
func Addr(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Listens waits until something listens at the address.
func Listens(t testing.TB, addr string) {
	t.Helper()
	Until(t, patience, "a server at "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Until waits for a condition that a real program makes true, and fails the
// test when it does not.
func Until(t testing.TB, atMost time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(atMost); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s in vain", atMost, what)
		}
	}
}

// Run runs a program to its end and gives what it printed on both outputs;
// input is its standard input. Ending with another code than zero is an error.
func Run(t testing.TB, input string, name string, args ...string) (string, error) {
	t.Helper()
	return run(t, nil, input, name, args...)
}

// MustRun is Run for programs that must succeed.
func MustRun(t testing.TB, input string, name string, args ...string) string {
	t.Helper()
	out, err := run(t, nil, input, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func run(t testing.TB, env []string, input, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Blackhole gives an address at which connections are neither taken nor
// refused: somebody listens, never accepts, and the backlog is full.
func Blackhole(t testing.TB) (host string, port uint16, addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	host = IP()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: netip.MustParseAddr(host).As4()}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port = uint16(name.(*syscall.SockaddrInet4).Port)
	addr = Addr(host, int(port))
	for range 3 { // a backlog of 0 has room for one
		if c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	return host, port, addr
}
