package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is what is sent through one relay in one go.
type load struct {
	addr        string
	n           int // messages
	connections int
	size        int    // octets of a message, header included
	from        string // MAIL FROM and From
	user, pass  string // with STARTTLS; empty: neither
	wait        bool   // until everything has arrived
}

// result is what a load showed.
type result struct {
	Accepted       int     `json:"accepted"`
	AcceptedPerSec float64 `json:"accepted_per_second"`
	RelayedPerSec  float64 `json:"relayed_per_second"`
	AcceptP50      float64 `json:"accept_p50_ms"`
	AcceptP99      float64 `json:"accept_p99_ms"`
	RelayP50       float64 `json:"relay_p50_ms"`
	RelayP99       float64 `json:"relay_p99_ms"`
	CPU            float64 `json:"cpu_ms_per_message"`
	PeakMiB        float64 `json:"peak_mib"`
	Other          float64 `json:"other_load_percent"`
	Lost           int     `json:"lost"`
	Twice          int     `json:"twice"`
	Signed         int     `json:"with_signature"`
	Err            string  `json:"error,omitempty"`
}

// text is a body of lines of words.
func text(octets int) []byte {
	words := strings.Fields("invoice payment received thank you for your order the attached statement shows balance due account service delivery tracking update please contact support regards team report summary total amount period review")
	b := make([]byte, 0, octets+80)
	for i := 0; len(b) < octets; {
		line := len(b)
		for len(b)-line < 64 {
			b = append(append(b, words[(i*7+i/11)%len(words)]...), ' ')
			i++
		}
		b = append(b, '\r', '\n')
	}
	b = b[:max(octets-2, 0)]
	for i := range b[max(0, len(b)-2):] { // no half line end
		b[len(b)-1-i] = 'x'
	}
	return append(b, '\r', '\n')
}

func headerOf(l *load, run string, i int) string {
	id := run + "." + strconv.Itoa(i)
	to := recipient(i)
	return "Date: " + time.Now().Format(time.RFC1123Z) + "\r\nFrom: Billing <" + l.from + ">\r\nTo: A Customer <" + to + ">\r\nReply-To: replies@sender.test\r\n" +
		"Subject: Your statement is ready\r\nMessage-ID: <" + id + "@bench.test>\r\nList-Unsubscribe: <https://sender.test/u/" + id + ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
}

// recipient is who message i goes to. There are few of them, for who mails
// thousands of new people at once is taken for a thief.
func recipient(i int) string { return "u" + strconv.Itoa(i%200) + "@rcpt.test" }

// client is one SMTP session.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (l *load) dial(ctx context.Context) (*client, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReader(conn)}
	if err := c.begin(l); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) begin(l *load) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if err := c.expect(220); err != nil {
		return err
	}
	if err := c.say(250, "EHLO app.sender.test\r\n"); err != nil || l.user == "" {
		return err
	}
	if err := c.say(220, "STARTTLS\r\n"); err != nil {
		return err
	}
	// The relay's certificate is its own.
	secured := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	c.Conn, c.r = secured, bufio.NewReader(secured)
	if err := c.say(250, "EHLO app.sender.test\r\n"); err != nil {
		return err
	}
	return c.say(235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+l.user+"\x00"+l.pass))+"\r\n")
}

func (c *client) say(code int, line string) error {
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	return c.expect(code)
}

// expect reads one reply.
func (c *client) expect(code int) error {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, strconv.Itoa(code)) {
			return fmt.Errorf("%s instead of %d", strings.TrimSpace(line), code)
		}
		return nil
	}
}

// send submits one message with the envelope in one write.
func (c *client) send(l *load, i int, message []byte) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", l.from, recipient(i)); err != nil {
		return err
	}
	for _, code := range []int{250, 250, 354} {
		if err := c.expect(code); err != nil {
			return err
		}
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	return c.expect(250)
}

// through sends the load and measures the relay, whose processes begin with
// pids.
func (l load) through(ctx context.Context, s *sink, pids []int) result {
	run := newRun(strconv.FormatInt(time.Now().UnixNano(), 36), l.n)
	s.run.Store(run)
	w := watchTrees(pids)
	var next, accepted atomic.Int64
	var failure atomic.Pointer[string]
	began := make([]int64, l.n)
	took := make([]time.Duration, l.n)
	body := text(l.size - len(headerOf(&l, run.id, l.n)))
	start := time.Now()
	var wg sync.WaitGroup
	for range l.connections {
		wg.Go(func() {
			c, err := l.dial(ctx)
			if err != nil {
				why := err.Error()
				failure.CompareAndSwap(nil, &why)
				return
			}
			defer c.Close()
			message := make([]byte, 0, l.size+1024)
			for {
				i := int(next.Add(1)) - 1
				if i >= l.n || failure.Load() != nil {
					break
				}
				message = append(append(append(message[:0], headerOf(&l, run.id, i)...), body...), ".\r\n"...)
				t := time.Now()
				began[i] = t.UnixNano()
				if err := c.send(&l, i, message); err != nil {
					why := err.Error()
					failure.CompareAndSwap(nil, &why)
					return
				}
				took[i] = time.Since(t)
				accepted.Add(1)
			}
			_, _ = io.WriteString(c, "QUIT\r\n") // the connection is closed next
		})
	}
	wg.Wait()
	res := result{Accepted: int(accepted.Load()), AcceptedPerSec: float64(accepted.Load()) / time.Since(start).Seconds()}
	if why := failure.Load(); why != nil {
		res.Err = *why
	}
	if l.wait {
		run.await(ctx, accepted.Load())
		time.Sleep(200 * time.Millisecond) // what would come twice
	}
	res.CPU, res.PeakMiB, res.Other = w.stop(res.Accepted)
	res.AcceptP50, res.AcceptP99 = quantiles(took)
	if l.wait {
		run.fill(&res, start, began, took)
	}
	return res
}

// await waits for n arrivals, and gives up when none came for 30 seconds.
func (r *run) await(ctx context.Context, n int64) {
	before, since := int64(-1), time.Now()
	for r.arrived.Load() < n && time.Since(since) < 30*time.Second && ctx.Err() == nil {
		if got := r.arrived.Load(); got != before {
			before, since = got, time.Now()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// fill says what arrived.
func (r *run) fill(res *result, start time.Time, began []int64, took []time.Duration) {
	late := make([]time.Duration, 0, len(began))
	for i := range began {
		at := r.first[i].Load()
		switch {
		case took[i] > 0 && at == 0:
			res.Lost++
		case at > 0:
			late = append(late, time.Duration(at-began[i]))
			res.Twice += int(r.copies[i].Load()) - 1
		}
	}
	res.RelayP50, res.RelayP99 = quantiles(late)
	res.Signed = int(r.signed.Load())
	if d := time.Duration(r.last.Load() - start.UnixNano()); d > 0 {
		res.RelayedPerSec = float64(r.arrived.Load()) / d.Seconds()
	}
}

// quantiles are the median and the 99th percentile in milliseconds.
func quantiles(d []time.Duration) (p50, p99 float64) {
	d = slices.DeleteFunc(slices.Clone(d), func(d time.Duration) bool { return d == 0 })
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	at := func(q float64) float64 { return float64(d[int(float64(len(d)-1)*q)].Microseconds()) / 1000 }
	return at(0.5), at(0.99)
}
