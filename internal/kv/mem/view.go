package mem

import (
	"bytes"
	"context"

	"behalf/internal/kv"
)

// view reads one state.
type view struct {
	ctx   context.Context
	state *tree
}

func (v view) Get(key []byte) ([]byte, error) {
	row, ok := v.state.Get(kv.Row{Key: key})
	if !ok || row.Gone() {
		return nil, kv.ErrNotFound
	}
	return row.Value, nil
}

func (v view) Scan(r kv.Range, fn func(key, value []byte) bool) error {
	each := func(row kv.Row) bool {
		if !bytes.HasPrefix(row.Key, r.Prefix) {
			return false
		}
		switch {
		case v.ctx.Err() != nil:
			return false
		case row.Gone():
			return true
		case r.KeysOnly:
			return fn(row.Key, nil)
		}
		return fn(row.Key, row.Value)
	}
	if r.Reverse {
		v.state.Descend(kv.Row{Key: kv.Last(r)}, each)
	} else {
		v.state.Ascend(kv.Row{Key: kv.First(r)}, each)
	}
	return v.ctx.Err()
}
