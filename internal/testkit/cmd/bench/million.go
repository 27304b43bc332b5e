package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"behalf/internal/testkit/cmd/bench/load"
	"behalf/internal/testkit/cmd/bench/proc"
)

// millionResult is what very many messages leave behind.
type millionResult struct {
	Retention string             `json:"retention"`
	Settled   float64            `json:"settled_s"` // after the last message
	Disk      float64            `json:"disk_mib"`
	Peak      float64            `json:"peak_disk_mib"`
	Folders   map[string]float64 `json:"folders_mib"`
	proc.State
	result
}

// million sends very many messages, once with the default retention, where most
// of what lies there afterwards is what is to be kept, and once with a short
// one, where nothing is to be kept any more.
func (b *bench) million(ctx context.Context) error {
	b.say("| %d messages of 4 KiB, retention | relayed | disk, most | disk after | memory after: all / without mapped files | most memory |\n| --- | --- | --- | --- | --- | --- |\n", b.options.scale.million)
	kept, err := time.ParseDuration(b.keep)
	if err != nil {
		return err
	}
	var verdict []error
	for _, c := range []struct {
		name, config string
		settle       time.Duration
		disk         float64 // what it may take, MiB
	}{{"default", "", b.settle, math.Inf(1)}, {"bodies, events and policy inputs " + b.keep, retention(b.keep), kept + b.settle, bound}} {
		res, err := b.millionWith(ctx, c.config, c.settle)
		if err != nil {
			return fmt.Errorf("retention %s: %w", c.name, err)
		}
		res.Retention = c.name
		b.note(res)
		b.say("| %s | %.0f/s | %.0f MiB | %.0f MiB after %.0f s: %s | %.0f / %.0f MiB | %.0f MiB |\n",
			c.name, res.RelayedPerSec, res.Peak, res.Disk, res.Settled, folders(res.Folders), res.RSS, res.Anon, res.PeakMiB)
		if res.Disk > c.disk || res.RSS > bound {
			verdict = append(verdict, fmt.Errorf("retention %s: %.0f MiB on the disk, %.0f MiB in memory: more than %v", c.name, res.Disk, res.RSS, bound))
		}
	}
	b.say("\n")
	return errors.Join(verdict...)
}

// bound is how many MiB the data folder may take when nothing is to be kept any
// more, and the process in any case.
const bound = 200.0

// retention is the configuration that keeps nothing longer than that.
func retention(keep string) string {
	return fmt.Sprintf("retention: { bodies: %[1]s, events: %[1]s, policy_inputs: %[1]s }\n", keep)
}

func (b *bench) millionWith(ctx context.Context, config string, settle time.Duration) (res millionResult, err error) {
	ours, r, end, err := b.start(ctx, "million", setup{resources: plainTenant("plain", b.sink.Port()), config: config})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, end()) }()
	watching, stop := context.WithCancel(ctx)
	most := make(chan float64, 1)
	go func() { most <- fullest(watching, ours.data) }()
	res.result, err = b.through(ctx, r, load.Load{Sessions: 100, Each: 5000, Size: 4096}, b.options.scale.million)
	stop()
	if res.Peak = <-most; err != nil {
		return res, err
	}
	select {
	case <-ctx.Done():
		return res, ctx.Err()
	case <-time.After(settle):
	}
	res.Settled = settle.Seconds()
	if res.State, err = proc.Read(r.pids[0]); err != nil {
		return res, err
	}
	res.Disk, res.Folders, err = ours.disk()
	return res, err
}

// fullest watches a folder and tells the most it took, in MiB.
func fullest(ctx context.Context, dir string) (most float64) {
	for ctx.Err() == nil {
		if now, err := proc.Disk(dir); err == nil {
			most = max(most, now)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return most
}

// disk tells what the data folder takes, and each folder in it.
func (b *behalf) disk() (all float64, each map[string]float64, err error) {
	entries, err := os.ReadDir(b.data)
	if err != nil {
		return 0, nil, err
	}
	each = map[string]float64{}
	for _, e := range entries {
		if e.IsDir() {
			if each[e.Name()], err = proc.Disk(filepath.Join(b.data, e.Name())); err != nil {
				return 0, nil, err
			}
		}
	}
	all, err = proc.Disk(b.data)
	return all, each, err
}

// folders says what each folder takes, those that take something.
func folders(each map[string]float64) string {
	var parts []string
	for _, name := range []string{"bodies", "store", "policy", "incoming"} {
		if mib := each[name]; mib >= 1 {
			parts = append(parts, fmt.Sprintf("%s %.0f", name, mib))
		}
	}
	return strings.Join(parts, ", ")
}
