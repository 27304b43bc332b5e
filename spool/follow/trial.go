package follow

import (
	"errors"
	"time"

	"behalf/internal/kv"
)

var errTrial = errors.New("follow: this is but a trial")

// trial is a Writer that refuses everything and notes that it was asked.
type trial struct{ touched bool }

var _ kv.Writer = (*trial)(nil)

// cause is what the handler said, unless it was the trial's own doing.
func (t *trial) cause(err error) error {
	if t.touched {
		return nil
	}
	return err
}

func (t *trial) refuse() error {
	t.touched = true
	return errTrial
}

// Get implements kv.Writer.
func (t *trial) Get([]byte) ([]byte, error) { return nil, t.refuse() }

// Put implements kv.Writer.
func (t *trial) Put(_, _ []byte) error { return t.refuse() }

// PutNew implements kv.Writer.
func (t *trial) PutNew(_, _ []byte) error { return t.refuse() }

// PutFor implements kv.Writer.
func (t *trial) PutFor(_, _ []byte, _ time.Duration) error { return t.refuse() }

// Delete implements kv.Writer.
func (t *trial) Delete([]byte) error { return t.refuse() }

// Needs implements kv.Writer.
func (t *trial) Needs(kv.Durable) { t.touched = true }
