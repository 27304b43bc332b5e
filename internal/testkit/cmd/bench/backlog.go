package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// backlog measures what no steady load shows: taking mail while the next hop is
// down, passing it on afterwards, and the memory that idle clients need.
func (m *matrix) backlog(ctx context.Context, dir string, b *behalf) (err error) {
	ours, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	peer, err := startPostfix(ctx, filepath.Join(dir, "postfix-backlog"), m.sink.port(), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	fmt.Printf("\n| | Behalf | Postfix |\n| --- | --- | --- |\n")
	var took, passed, memory, idle [2]string
	for i, r := range []*relay{ours, peer} {
		base := resident(r.pids)
		idle[i], err = idleClients(ctx, r)
		if err != nil {
			return err
		}
		res, drain, err := m.pile(ctx, r)
		if err != nil {
			return err
		}
		took[i], passed[i] = fmt.Sprintf("%.0f/s", res.AcceptedPerSec), fmt.Sprintf("%.0f/s", drain)
		memory[i] = fmt.Sprintf("%.0f / %.0f MiB", base, res.PeakMiB)
	}
	for _, row := range []struct {
		what   string
		values [2]string
	}{
		{fmt.Sprintf("%d messages of 4 KiB taken while the hop is down", m.pileUp), took},
		{"the same passed on when it is up again", passed},
		{"resident memory fresh / while they come", memory},
		{"for 1,000 idle clients", idle},
	} {
		fmt.Printf("| %s | %s | %s |\n", row.what, row.values[0], row.values[1])
	}
	return nil
}

// pile lets messages pile up before a hop that is down, and tells how many a
// second leave when it is up again.
func (m *matrix) pile(ctx context.Context, r *relay) (res result, drained float64, err error) {
	m.sink.setDown(true)
	l := r.load
	l.n, l.connections, l.size = m.pileUp, 20, 4096
	res = l.through(ctx, m.sink, r.pids)
	m.sink.setDown(false)
	if res.Err != "" {
		return res, 0, fmt.Errorf("%s: %s", r.name, res.Err)
	}
	start := time.Now()
	if err := r.flush(ctx); err != nil {
		return res, 0, err
	}
	run := m.sink.run.Load()
	run.await(ctx, int64(l.n))
	if lost := int64(l.n) - run.arrived.Load(); lost > 0 {
		return res, 0, fmt.Errorf("%s: %d messages of the backlog did not come", r.name, lost)
	}
	return res, float64(l.n) / time.Duration(run.last.Load()-start.UnixNano()).Seconds(), nil
}

// resident is the memory of processes and their descendants in MiB.
func resident(pids []int) float64 {
	_, mib := (&watcher{roots: pids}).look()
	return mib
}

// idleClients tells how much memory 1,000 greeted clients take.
func idleClients(ctx context.Context, r *relay) (string, error) {
	before := resident(r.pids)
	var clients []net.Conn
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for len(clients) < 1000 && ctx.Err() == nil {
		c, err := net.DialTimeout("tcp", r.load.addr, 5*time.Second)
		if err != nil {
			return "", err
		}
		clients = append(clients, c)
		if _, err := io.WriteString(c, "EHLO idle.test\r\n"); err != nil {
			return "", err
		}
		buf, got := make([]byte, 4096), ""
		for !strings.Contains(got, "\n250 ") {
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return "", err
			}
			n, err := c.Read(buf)
			if err != nil {
				return fmt.Sprintf("no more than %d are served", len(clients)-1), nil // a limit of the peer's
			}
			got += string(buf[:n])
		}
	}
	return fmt.Sprintf("+%.0f MiB", resident(r.pids)-before), ctx.Err()
}

// retryAll asks the relay to try again at once.
func (b *behalf) retryAll(ctx context.Context) error {
	key, err := os.ReadFile(filepath.Join(b.data, "admin.key"))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:"+strconv.Itoa(b.http)+"/v1/queue/retry", strings.NewReader(`{"all": true}`))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(key)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // for the message
		return fmt.Errorf("asking to try again: %s: %s", resp.Status, text)
	}
	return nil
}

func flushPostfix(etc string) func(context.Context) error {
	return func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, "postqueue", "-c", etc, "-f").CombinedOutput(); err != nil {
			return fmt.Errorf("asking to try again: %w: %s", err, out)
		}
		return nil
	}
}
