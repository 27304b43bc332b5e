package main_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

// Large messages pass through without being held in memory.
func TestE2ELargeMessages(t *testing.T) {
	t.Parallel()
	const count, size = 6, 7 << 20 // the sink takes 10 MiB
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "")
	var wg sync.WaitGroup
	sums := make([][sha256.Size]byte, count)
	for i := range count {
		body := blob(size)
		sums[i] = sha256.Sum256(body)
		wg.Go(func() {
			c := login(t, r)
			if err := c.Mail(acmeFrom); err != nil {
				t.Error(err)
				return
			}
			if err := c.Rcpt("you@sink.test"); err != nil {
				t.Error(err)
				return
			}
			d, err := c.Data()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(d, "From: %s\r\nTo: you@sink.test\r\nSubject: large %d.\r\n\r\n", acmeFrom, i)
			if _, err := d.Write(body); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range count {
		got := lab.Arrived(t, w.Sink, fmt.Sprintf("Subject: large %d.", i))
		_, body, _ := strings.Cut(got.Data, "\r\n\r\n")
		if sha256.Sum256([]byte(body)) != sums[i] {
			t.Errorf("message %d arrived changed (%d octets)", i, len(body))
		}
	}
	if peak, most := peakMemory(t, r.PID()), 300<<20; peak > most {
		t.Errorf("the relay took %d MiB", peak>>20)
	} else {
		t.Logf("the relay took %d MiB at most", peak>>20)
	}
}

// blob is text that does not compress, in lines.
func blob(size int) []byte {
	var b bytes.Buffer
	for b.Len() < size {
		for range 4 {
			fmt.Fprintf(&b, "%016x", rand.Uint64())
		}
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most that a process had in memory, in octets.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	m := highWater.FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmHWM in %s", b)
	}
	kib, _ := strconv.Atoi(string(m[1])) // digits
	return kib << 10
}

// Addresses beyond ASCII reach servers that know them, and fail clearly at
// those that do not.
func TestE2EInternationalAddresses(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, func(w *lab.World) string {
		postfix := lab.StartPostfix(t, w.MXPort, lab.ServerOptions{Hostname: "mx.receiver.test", Next: lab.Addr(w.Sink.Host(), w.MXPort)})
		smtpd := lab.StartOpenSMTPD(t, w.MXPort, lab.ServerOptions{Hostname: "mx.ascii.test", Next: lab.Addr(w.Sink.Host(), w.MXPort)})
		return lab.MX("receiver.test", "mx.receiver.test", postfix.Host) + lab.MX("ascii.test", "mx.ascii.test", smtpd.Host) // OpenSMTPD has no SMTPUTF8
	}, nil)
	r := start(t, w, "")
	id := send(t, r, "jürgen@receiver.test", "Grüße an Jürgen")
	r.Reaches(t, id, "delivered", soon)
	lab.Until(t, soon, "the message", func() bool {
		for _, m := range w.Sink.Messages() {
			if m.To[0] == "jürgen@receiver.test" {
				return true
			}
		}
		return false
	})
	id = send(t, r, "jürgen@ascii.test", "nobody can say that here")
	r.Reaches(t, id, "failed", soon)
	if trace := r.MustCLI(t, "message", "trace", id); !strings.Contains(trace, "SMTPUTF8") || !strings.Contains(trace, " 5.6.7 ") {
		t.Errorf("the trace does not say why:\n%s", trace)
	}
}

// A message for later waits for its time, over a restart too.
func TestE2ESendAt(t *testing.T) {
	t.Parallel()
	w := lab.NewWorld(t, nil, nil)
	r := start(t, w, "")
	at := time.Now().Add(4 * time.Second)
	c := login(t, r)
	submit(t, c, acmeFrom, "you@sink.test", "Behalf-Send-At: "+at.UTC().Format(time.RFC3339Nano)+"\r\nBehalf-Tag: later\r\n", "for later")
	id := r.Find(t, "--tag", "later")[0].ID
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r.Start(t)
	if lab.Count(w.Sink, "for later") > 0 && time.Now().Before(at) {
		t.Error("it left before its time")
	}
	r.Reaches(t, id, "delivered", soon)
	if time.Now().Before(at.Truncate(time.Second)) {
		t.Error("it was delivered before its time")
	}
	if got := lab.Arrived(t, w.Sink, "for later"); strings.Contains(got.Data, "Behalf-") {
		t.Errorf("a hint left the relay:\n%s", got.Data)
	}
}
