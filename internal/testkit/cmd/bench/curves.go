package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"behalf/internal/testkit/cmd/bench/load"
	"behalf/internal/testkit/cmd/bench/proc"
)

// curve asks what a message costs by how much there is of something.
type curve struct {
	name, what string
	points     []int
	// prepare starts a relay with x of it, and tells how the measured mail is sent.
	prepare func(b *bench, ctx context.Context, ours *behalf, x int) (*relay, load.Load, error)
}

func (b *bench) list() []curve {
	return []curve{
		{"tenants", "tenants", b.tenants, (*bench).withTenants},
		{"queued", "messages queued for a hop that is down", b.queued, (*bench).withQueue},
		{"keys", "limit keys", b.keys, (*bench).withKeys},
		{"destinations", "recipient domains", b.domains, (*bench).withDestinations},
	}
}

// curvePoint is one run at one point of a curve.
type curvePoint struct {
	Curve   string  `json:"curve"`
	X       int     `json:"x"`
	Prepare float64 `json:"prepare_s"`
	RSS     float64 `json:"rss_mib"` // before the first run
	result
}

// curves measures all points, each with a relay of its own, and draws them.
func (b *bench) curves(ctx context.Context) error {
	var all []curvePoint
	for _, c := range b.list() {
		b.say("| %s | CPU a message (least to most) | accept p50 | accepted to relayed p50 | memory before |\n| --- | --- | --- | --- | --- |\n", c.what)
		for _, x := range c.points {
			got, err := b.curveAt(ctx, c, x)
			if err != nil {
				return fmt.Errorf("%s, %d: %w", c.name, x, err)
			}
			all = append(all, got...)
			s := summary(got)
			b.say("| %d | %.2f ms (%.2f to %.2f) | %.1f ms | %.1f ms | %.0f MiB |\n", x, s.cpu.Y, s.cpu.Low, s.cpu.High, s.accept.Y, s.relay.Y, got[0].RSS)
		}
		b.say("\n")
	}
	picture := []byte(draw(all))
	err := os.WriteFile(filepath.Join(b.results, "curves.svg"), picture, 0o644)
	if b.svg != "" {
		err = errors.Join(err, os.WriteFile(b.svg, picture, 0o644))
	}
	return err
}

// curveAt measures one point: a run that nobody counts, then the others.
func (b *bench) curveAt(ctx context.Context, c curve, x int) (got []curvePoint, err error) {
	ours, err := b.newBehalf(c.name + strconv.Itoa(x))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	start := time.Now()
	r, l, err := c.prepare(b, ctx, ours, x)
	if r != nil {
		defer func() { err = errors.Join(err, r.stop()) }()
	}
	if err != nil {
		return nil, err
	}
	prepared := time.Since(start).Seconds()
	b.calmDown(ctx, r)
	l.Size, l.Sessions = 4096, 20
	memory := proc.Resident(r.pids)
	for i := range 1 + calmTries*b.repeats {
		p := curvePoint{Curve: c.name, X: x, Prepare: prepared, RSS: memory}
		if p.result, err = b.through(ctx, r, l, b.curveRuns); err != nil {
			return nil, err
		}
		b.tell("%s %d, run %d: %.2f ms CPU, accept p50 %.1f ms; prepared in %.0f s; %.0f %% other load, %.0f %% taken by the host", c.name, x, i, p.CPU, p.Accept.P50, prepared, p.Other, p.Taken)
		if i == 0 {
			continue
		}
		got = append(got, p)
		if got = calmest(got, b.repeats); len(got) == b.repeats && got[b.repeats-1].Taken <= b.taken {
			break
		}
	}
	for _, p := range got {
		b.note(p)
	}
	return got, nil
}

// calmTries is how many runs at most stand behind one that counts.
const calmTries = 4

// calmest gives up to n of the runs: those during which the host gave least to
// other guests, the last of them having lost the most.
func calmest(runs []curvePoint, n int) []curvePoint {
	slices.SortStableFunc(runs, func(a, b curvePoint) int { return cmp.Compare(a.Taken, b.Taken) })
	return runs[:min(n, len(runs))]
}

// calmDown waits until the relay has done what the preparation left to do, such
// as to write a million new limits down or that a million messages are late, or
// for eight minutes.
func (b *bench) calmDown(ctx context.Context, r *relay) {
	for end := time.Now().Add(8 * time.Minute); time.Now().Before(end) && ctx.Err() == nil; {
		before := proc.CPU(r.pids)
		time.Sleep(3 * time.Second)
		if proc.CPU(r.pids)-before < 3*time.Second/20 {
			return
		}
	}
	b.tell("the relay is still busy with what was prepared")
}

// withTenants has x tenants, applied by the API, each with a credential, an
// identity and a connection; mail comes from up to 100 of them.
func (b *bench) withTenants(ctx context.Context, ours *behalf, x int) (*relay, load.Load, error) {
	r, err := ours.run(ctx, setup{})
	if err != nil {
		return nil, load.Load{}, err
	}
	name := func(i int) string { return fmt.Sprintf("t%06d", i) }
	var l load.Load
	senders := min(x, 100)
	for i := range senders {
		l.Accounts = append(l.Accounts, plainAccount(name(i*(x/senders))))
	}
	l.Each = max(1, b.curveRuns/100) // so that all of them come
	return r, l, ours.addTenants(ctx, x, b.sink.Port(), name)
}

// withQueue has x messages of 1 KiB that wait for a hop that is down; the
// measured mail goes to one that is up.
func (b *bench) withQueue(ctx context.Context, ours *behalf, x int) (*relay, load.Load, error) {
	closed, err := freePort()
	if err != nil {
		return nil, load.Load{}, err
	}
	r, err := ours.run(ctx, setup{resources: plainTenant("plain", b.sink.Port()) + plainTenant("waiting", closed)})
	if err != nil {
		return nil, load.Load{}, err
	}
	return r, load.Load{}, b.accepted(ctx, r, x, load.Load{Accounts: []load.Account{plainAccount("waiting")}, Sessions: 50, Each: 5000, Size: 1024})
}

// accepted submits n messages that nobody waits for.
func (b *bench) accepted(ctx context.Context, r *relay, n int, l load.Load) error {
	run := b.arrivals.Open(n, 1)
	defer b.arrivals.Close(run)
	_, err := b.pile(ctx, r, run, l)
	return err
}

// keysEach is how many limits one message of the filling tenant falls under.
const keysEach = 50

// fillRules make as many limit keys as wanted: each message of the tenant
// filler takes 50 of its own for a day, and is dropped.
const fillRules = `package behalf.submission.message

limit contains {
	"rule": "fill",
	"key": ["fill", input.message.message_id, sprintf("%d", [i])],
	"count": "messages",
	"rate": 1,
	"per": "24h",
	"over": "defer",
} if {
	input.tenant.name == "filler"
	some i in numbers.range(1, 50)
}

discard contains {"rule": "fill", "reason": "made its limit keys"} if input.tenant.name == "filler"
`

// eachRecipient is a limit for each recipient.
const eachRecipient = `package behalf.submission.recipient

limit contains {
	"rule": "each-recipient",
	"key": ["recipient", input.tenant.id, input.recipient.address],
	"count": "recipients",
	"rate": 1000000,
	"per": "24h",
	"over": "defer",
} if {
	input.tenant.name == "plain"
}
`

// withKeys has x limit keys, made by mail that a rule drops; the measured mail
// falls under one limit for each recipient besides.
func (b *bench) withKeys(ctx context.Context, ours *behalf, x int) (*relay, load.Load, error) {
	r, err := ours.run(ctx, setup{resources: plainTenant("plain", b.sink.Port()) + plainTenant("filler", b.sink.Port()), rules: []string{fillRules, eachRecipient}})
	if err != nil {
		return nil, load.Load{}, err
	}
	return r, load.Load{}, b.accepted(ctx, r, max(1, x/keysEach), load.Load{Accounts: []load.Account{plainAccount("filler")}, Sessions: 20, Size: 1024})
}

// withDestinations has mailed x domains, and at least 200 addresses, each of
// which the DNS says is served by the sink; the measured mail goes to them again.
func (b *bench) withDestinations(ctx context.Context, ours *behalf, x int) (*relay, load.Load, error) {
	resources, err := ours.directTenant()
	if err != nil {
		return nil, load.Load{}, err
	}
	r, err := ours.run(ctx, setup{resources: resources, rules: []string{}})
	if err != nil {
		return nil, load.Load{}, err
	}
	addresses := max(x, 200)
	l := load.Load{Accounts: []load.Account{{From: "billing@direct.test", User: "direct/app", Pass: secret}}, Size: 1024, Sessions: 20, Each: 5000}
	l.Recipient = func(b []byte, i, _ int) []byte {
		k := i * 7919 % addresses // a prime: all of them come in turn, and not in order
		return append(append(strconv.AppendInt(append(b, 'u'), int64(k), 10), '@'), destination(k%x)...)
	}
	_, err = b.through(ctx, r, l, addresses)
	return r, l, err
}
