package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"behalf/mail"
	"behalf/relay"
)

const (
	// jsonMemory bounds what all JSON submissions together may hold, in octets.
	jsonMemory = 256 << 20
	jsonStep   = 256 << 10       // of a request that is read and paid for at a time
	jsonWait   = 5 * time.Second // for memory that others hold
)

// parts takes a message in parts. Done gives back the memory it was allowed.
func (a *API) parts(w http.ResponseWriter, r *http.Request) (s relay.Submission, done func(), err error) {
	raw, done, err := a.read(r.Context(), http.MaxBytesReader(w, r.Body, a.MaxSize+a.MaxSize/2)) // base 64 in JSON
	if err != nil {
		return s, done, err
	}
	var d Draft
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return s, done, bad("the request is not what POST /v1/messages takes: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return s, done, bad("something stands behind the JSON object; send one message at a time")
	}
	s, err = d.submission()
	s.Hash = func() [32]byte { return sha256.Sum256([]byte(raw)) }
	return s, done, err
}

// read reads a request whole. It takes memory as the octets come, twice what
// they are, so that a client which only promises much holds little.
func (a *API) read(ctx context.Context, r io.Reader) (raw string, done func(), err error) {
	var held int64
	done = func() { a.memory.Release(held) }
	var text strings.Builder
	for {
		wait, cancel := context.WithTimeout(ctx, jsonWait)
		err := a.memory.Acquire(wait, 2*jsonStep)
		cancel()
		if err != nil {
			f := mail.Fail(451, mail.Enhanced{4, 3, 2}, mail.OfUs, mail.ReasonRate, "too many large requests at once; try again in a minute")
			f.RetryAfter = time.Minute
			return "", done, f
		}
		held += 2 * jsonStep
		_, err = io.CopyN(&text, r, jsonStep)
		if errors.Is(err, io.EOF) {
			return text.String(), done, nil
		}
		if err != nil {
			return "", done, fmt.Errorf("reading the request: %w", err)
		}
	}
}
