package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"behalf/web"
)

// client talks to the API of a running server.
type client struct {
	server  string
	key     string
	patient bool // waits for long work, as long as it goes on
}

// clientFlags are the flags of every command that talks to a server.
type clientFlags struct{ server, key string }

func (f *clientFlags) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.server, "server", "", "`URL` of the server's API; default BEHALF_SERVER, else http://127.0.0.1:8025")
	cmd.PersistentFlags().StringVar(&f.key, "key", "", "admin key or credential secret, or @FILE that holds it; default BEHALF_KEY, else ./data/admin.key")
}

func (f *clientFlags) client() (*client, error) {
	c := &client{server: f.server, key: f.key}
	if c.server == "" {
		c.server = os.Getenv("BEHALF_SERVER")
	}
	if c.server == "" {
		c.server = "http://127.0.0.1:8025"
	}
	if !strings.Contains(c.server, "://") {
		c.server = "http://" + c.server
	}
	c.server = strings.TrimSuffix(c.server, "/")
	if c.key == "" {
		c.key = os.Getenv("BEHALF_KEY")
	}
	if c.key == "" {
		if _, err := os.Stat("data/admin.key"); err == nil {
			c.key = "@data/admin.key"
		}
	}
	if file, ok := strings.CutPrefix(c.key, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the key: %w", err)
		}
		c.key = strings.TrimSpace(string(b))
	}
	if c.key == "" {
		return nil, usageError{errors.New("give a key: --key, or BEHALF_KEY in the environment")}
	}
	return c, nil
}

// call makes a request and decodes the answer into out, unless that is nil.
func (c *client) call(ctx context.Context, method, path string, q url.Values, body, out any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		r = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, q, r, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

// do makes a request; an answer that is an error becomes one.
func (c *client) do(ctx context.Context, method, path string, q url.Values, body io.Reader, h http.Header) (*http.Response, error) {
	u := c.server + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, usageError{fmt.Errorf("--server %s: %w", c.server, err)}
	}
	for k, v := range h {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	waiting := http.Client{Timeout: 10 * time.Minute}
	if c.patient {
		waiting.Timeout = 0
	}
	resp, err := waiting.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s; is the server running there? (%w)", c.server, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problem(resp)
}

// problem reads a problem document as one sentence.
func problem(resp *http.Response) error {
	var p web.Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p); err != nil || p.Detail == "" {
		return fmt.Errorf("the server answered %s", resp.Status)
	}
	if p.Code != 0 {
		return fmt.Errorf("%d %s %s", p.Code, p.Enhanced, p.Detail)
	}
	return errors.New(p.Detail)
}

// page is a part of a list.
type page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
}

// list reads all pages of a list, up to most items (0: all).
func (c *client) list(ctx context.Context, path string, q url.Values, most int, each func(json.RawMessage) error) error {
	if q == nil {
		q = url.Values{}
	}
	for n := 0; ; {
		var p page
		if err := c.call(ctx, http.MethodGet, path, q, nil, &p); err != nil {
			return err
		}
		for _, it := range p.Items {
			if most > 0 && n == most {
				return nil
			}
			n++
			if err := each(it); err != nil {
				return err
			}
		}
		if p.Next == "" {
			return nil
		}
		q.Set("cursor", p.Next)
	}
}

// apply posts a resource and says what that changed.
func (c *client) apply(ctx context.Context, path string, raw json.RawMessage, out any) (change string, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/"+path, nil, bytes.NewReader(raw), http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return "", fmt.Errorf("reading the server's answer: %w", err)
	}
	return resp.Header.Get("Behalf-Change"), nil
}
