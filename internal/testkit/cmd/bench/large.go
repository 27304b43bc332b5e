package main

import (
	"context"
	"errors"

	"behalf/internal/testkit/cmd/bench/load"
	"behalf/internal/testkit/cmd/bench/proc"
)

// large is messages of the greatest size that a relay takes by default, sent at
// once.
type large struct{ sessions, recipients, size int }

// largeResult is what they showed.
type largeResult struct {
	Sessions   int `json:"sessions"`
	Recipients int `json:"recipients"`
	Size       int `json:"size"`
	result
}

func (b *bench) large(ctx context.Context) (err error) {
	_, r, stop, err := b.start(ctx, "large", setup{resources: plainTenant("plain", b.sink.Port())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	l := b.options.scale.large
	job := load.Load{Sessions: 1, Size: 4096, Recipients: l.recipients,
		Recipient: func(b []byte, i, k int) []byte { return load.FewRecipients(b, k, 0) }}
	if _, err := b.through(ctx, r, job, 1); err != nil { // so much mail to new people at once is held
		return err
	}
	job.Sessions, job.Size = l.sessions, l.size
	res, err := b.through(ctx, r, job, l.sessions)
	if state, err := proc.Read(r.pids[0]); err == nil {
		res.PeakMiB = state.Peak // to the octet, and the relay has done nothing else
	}
	b.note(largeResult{l.sessions, l.recipients, l.size, res})
	if err != nil {
		return err
	}
	b.say("| | |\n| --- | --- |\n")
	b.say("| %d connections at once, a message of %d MiB to %d recipients each | all delivered, once |\n", l.sessions, l.size>>20, l.recipients)
	b.say("| peak memory | %.0f MiB |\n| taken | %.0f MiB/s |\n| delivered | %.0f MiB/s |\n| the last one accepted / delivered after | %.1f / %.1f s |\n| CPU of a message | %.0f ms |\n\n", res.PeakMiB,
		res.AcceptedPerSec*float64(l.size>>20), res.RelayedPerSec*float64(l.size>>20), res.Accept.Max/1000, res.Late.Max/1000, res.CPU)
	return nil
}
