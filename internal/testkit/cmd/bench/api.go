package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// call makes one request to the relay's HTTP door as its administrator.
func (b *behalf) call(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:"+strconv.Itoa(b.http)+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if b.key != "" {
		req.Header.Set("Authorization", "Bearer "+b.key)
	}
	if strings.HasPrefix(path, "/v1/") {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, text)
	}
	return text, err
}

// ready waits until the relay says that it is, and takes its key.
func (b *behalf) ready(ctx context.Context, r *relay, within time.Duration) error {
	for end := time.Now().Add(within); ; {
		_, err := b.call(ctx, http.MethodGet, "/readyz", "")
		if err == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil || r.gone() {
			return fmt.Errorf("the relay does not get ready: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	key, err := os.ReadFile(filepath.Join(b.data, "admin.key"))
	b.key = string(bytes.TrimSpace(key))
	return err
}

// retryAll asks the relay to try again at once.
func (b *behalf) retryAll(ctx context.Context) error {
	_, err := b.call(ctx, http.MethodPost, "/v1/queue/retry", `{"all": true}`)
	return err
}

// addTenants applies n tenants by the API, 32 requests at once.
func (b *behalf) addTenants(ctx context.Context, n, port int, name func(int) string) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range 32 {
		g.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				for _, d := range plainDocuments(name(i), port) {
					if _, err := b.call(ctx, http.MethodPost, "/v1/"+d[0], d[1]); err != nil {
						return err
					}
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// metric reads one metric without labels.
func (b *behalf) metric(ctx context.Context, name string) (float64, error) {
	text, err := b.call(ctx, http.MethodGet, "/metrics", "")
	if err != nil {
		return 0, err
	}
	return metricIn(text, name)
}

// metricIn finds a line as "go_goroutines 53".
func metricIn(text []byte, name string) (float64, error) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
		}
	}
	return 0, errors.New("there is no metric " + name)
}
