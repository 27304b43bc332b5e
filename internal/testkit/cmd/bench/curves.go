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

// curvePoint is one run at one point of a curve, right after one at its first
// point.
type curvePoint struct {
	Curve   string  `json:"curve"`
	X       int     `json:"x"`
	Prepare float64 `json:"prepare_s"`
	RSS     float64 `json:"rss_mib"` // before the first run
	result
	Times       float64 `json:"cpu_times_first"`
	AcceptTimes float64 `json:"accept_p50_times_first"`
}

// curves measures all points, each with a relay of its own, and draws them.
func (b *bench) curves(ctx context.Context) error {
	var all []curvePoint
	for _, c := range b.list() {
		got, err := b.curve(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, got...)
		b.say("\n")
	}
	picture := []byte(draw(all))
	err := os.WriteFile(filepath.Join(b.results, "curves.svg"), picture, 0o644)
	if b.svg != "" {
		err = errors.Join(err, os.WriteFile(b.svg, picture, 0o644))
	}
	return err
}

// curve measures one. Its first relay stays, so that each run at another point is
// compared with one that was made right before: the processors of a shared machine
// are faster in one minute than in another.
func (b *bench) curve(ctx context.Context, c curve) (all []curvePoint, err error) {
	b.say("| %s | CPU a message (least to most) | times that of the first point, in turns (least to most) | accept p50 | accepted to relayed p50 | memory before |\n| --- | --- | --- | --- | --- | --- |\n", c.what)
	first, err := b.prepared(ctx, c, c.points[0])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, first.close()) }()
	for i, x := range c.points {
		at := first
		if i > 0 {
			if at, err = b.prepared(ctx, c, x); err != nil {
				return nil, err
			}
		}
		got, err := b.inTurns(ctx, c, first, at)
		if i > 0 {
			err = errors.Join(err, at.close())
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", x, err)
		}
		all = append(all, got...)
		s := summary(got)
		b.say("| %d | %.2f ms (%.2f to %.2f) | %.2f (%.2f to %.2f) | %.1f ms | %.1f ms | %.0f MiB |\n", x, s.cpu.Y, s.cpu.Low, s.cpu.High,
			s.times.Y, s.times.Low, s.times.High, s.accept.Y, s.relay.Y, at.memory)
	}
	return all, nil
}

// onCurve is a relay at one point of a curve.
type onCurve struct {
	ours   *behalf
	relay  *relay
	load   load.Load
	x      int
	took   float64 // seconds to prepare
	memory float64 // MiB, before the first run
}

func (p *onCurve) close() (err error) {
	if p.relay != nil {
		err = p.relay.stop()
	}
	return errors.Join(err, p.ours.close())
}

// prepared starts a relay with x of what c is about.
func (b *bench) prepared(ctx context.Context, c curve, x int) (*onCurve, error) {
	ours, err := b.newBehalf(c.name + strconv.Itoa(x))
	if err != nil {
		return nil, err
	}
	start := time.Now()
	p := &onCurve{ours: ours, x: x}
	if p.relay, p.load, err = c.prepare(b, ctx, ours, x); err != nil {
		return nil, errors.Join(fmt.Errorf("%d: %w", x, err), p.close())
	}
	p.took = time.Since(start).Seconds()
	b.calmDown(ctx, p.relay)
	p.load.Size, p.load.Sessions = 4096, 20
	p.memory = proc.Resident(p.relay.pids)
	return p, nil
}

// inTurns measures at, each time after first: a turn that nobody counts, then the
// others.
func (b *bench) inTurns(ctx context.Context, c curve, first, at *onCurve) (got []curvePoint, err error) {
	for i := range 1 + calmTries*b.repeats {
		before, err := b.through(ctx, first.relay, first.load, b.curveRuns)
		if err != nil {
			return nil, err
		}
		p := curvePoint{Curve: c.name, X: at.x, Prepare: at.took, RSS: at.memory}
		if p.result, err = b.through(ctx, at.relay, at.load, b.curveRuns); err != nil {
			return nil, err
		}
		p.Taken = max(p.Taken, before.Taken)
		p.Times, p.AcceptTimes = p.CPU/before.CPU, p.Accept.P50/before.Accept.P50
		b.tell("%s %d, turn %d: %.2f ms CPU, %.2f times the first point, accept p50 %.1f ms; prepared in %.0f s; %.0f %% other load, %.0f %% taken by the host", c.name, at.x, i, p.CPU, p.Times, p.Accept.P50, at.took, p.Other, p.Taken)
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
