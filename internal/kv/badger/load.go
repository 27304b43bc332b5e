package badger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"behalf/internal/kv"
)

// What one commit of a restore gathers.
const (
	loadRows  = 4096
	loadBytes = 1 << 20
)

// Load makes a store in dir, which must be empty or not there, from a backup.
// A store whose Load failed is not to be used.
func Load(ctx context.Context, dir string, r io.Reader, opts Options) (err error) {
	files, err := os.ReadDir(dir)
	if err == nil && len(files) > 0 {
		return fmt.Errorf("restore store: %s is not empty", dir)
	}
	s, err := Open(dir, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l := loader{ctx: ctx, engine: engine{s}}
	if err := kv.ReadDump(r, l.put); err != nil {
		return fmt.Errorf("restore store: %w", err)
	}
	return l.flush()
}

type loader struct {
	ctx    context.Context
	engine engine
	rows   []kv.Row
	bytes  int
}

func (l *loader) put(r kv.Row) error {
	l.rows = append(l.rows, r)
	l.bytes += len(r.Key) + len(r.Value)
	if len(l.rows) < loadRows && l.bytes < loadBytes {
		return nil
	}
	return l.flush()
}

func (l *loader) flush() error {
	if err := l.ctx.Err(); err != nil || len(l.rows) == 0 {
		return err
	}
	err := l.engine.Apply(l.rows, nil)
	l.rows, l.bytes = nil, 0
	return err
}
