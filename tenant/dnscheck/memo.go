package dnscheck

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	maxKept    = 16384            // results of one kind
	staleFor   = 24 * time.Hour   // how long a result outlives its time when the DNS fails
	staleWait  = 2 * time.Second  // how long is asked before the old one is used
	freshWait  = 20 * time.Second // how long is asked when there is none
	retryAfter = 30 * time.Second // until a failed question is asked again, with an old result
	errorFor   = 3 * time.Second  // and without one
)

// memo keeps results of questions, least recently used out first. A result
// whose time has run out is asked for again by one caller; until the answer is
// there, others get the old one.
type memo[K comparable, V any] struct {
	mu  sync.Mutex
	lru *simplelru.LRU[K, *kept[V]]
}

type kept[V any] struct {
	value  V
	has    bool      // there is a value
	got    time.Time // when
	until  time.Time // fresh until then
	err    error     // of the last question, if there is no value
	asking chan struct{}
}

func newMemo[K comparable, V any]() *memo[K, V] {
	l, _ := simplelru.NewLRU[K, *kept[V]](maxKept, nil) // fails for a size below 1 only
	return &memo[K, V]{lru: l}
}

// known gives the result for k that is there and fresh. It is what get begins
// with; who asks here first need not make a question for nothing.
func (m *memo[K, V]) known(k K) (v V, err error, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.lru.Get(k)
	if !ok || !time.Now().Before(e.until) {
		return v, nil, false
	}
	return e.value, e.err, true
}

// get gives the result for k, from ask if need be, which runs in the caller's
// goroutine and says how long its result holds.
func (m *memo[K, V]) get(ctx context.Context, k K, ask func(context.Context) (V, time.Duration, error)) (V, error) {
	for {
		m.mu.Lock()
		e, ok := m.lru.Get(k)
		if !ok {
			e = &kept[V]{}
			m.lru.Add(k, e)
		}
		now := time.Now()
		stale := e.has && now.Sub(e.got) < staleFor
		switch {
		case now.Before(e.until), e.asking != nil && stale:
			v, err := e.value, e.err
			m.mu.Unlock()
			return v, err
		case e.asking == nil:
			e.asking = make(chan struct{})
			m.mu.Unlock()
			return m.ask(ctx, e, stale, ask)
		}
		wait := e.asking
		m.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
	}
}

func (m *memo[K, V]) ask(ctx context.Context, e *kept[V], stale bool, ask func(context.Context) (V, time.Duration, error)) (V, error) {
	wait := freshWait
	if stale {
		wait = staleWait
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		close(e.asking)
		e.asking = nil
	}()
	v, life, err := ask(limited)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		e.value, e.has, e.got, e.until, e.err = v, true, now, now.Add(life), nil
	case stale:
		e.until = now.Add(retryAfter)
	default:
		var none V
		e.value, e.has, e.err = none, false, err
		if ctx.Err() == nil { // else the caller gave up, which says nothing
			e.until = now.Add(errorFor)
		}
	}
	return e.value, e.err
}
