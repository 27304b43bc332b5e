package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"behalf/internal/kv"
	"behalf/mail"
)

// TooLargeError tells of messages whose outcome the store cannot take however
// it is cut. What could be written of it was.
type TooLargeError struct {
	IDs []mail.ID
	Err error // the first of them; it wraps kv.ErrTooBig
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("spool: outcomes of %d messages are larger than what can be stored at once: %v", len(e.IDs), e.Err)
}

// Unwrap gives the first of the errors.
func (e *TooLargeError) Unwrap() error { return e.Err }

// settler writes groups of outcomes and remembers what could not be. How many
// octets a group comes to is known only once its rows were read: an outcome of
// one recipient, or of none, rewrites the row of 64. So a group is tried whole,
// and in halves when it is too big, which costs little as nothing was written.
type settler struct {
	missing error
	large   *TooLargeError
}

func (sr *settler) told() error {
	if sr.large == nil {
		return sr.missing
	}
	return errors.Join(sr.missing, sr.large)
}

func (sr *settler) group(ctx context.Context, s *Spool, os []Outcome) error {
	missing, err := s.settleGroup(ctx, os)
	if !errors.Is(err, kv.ErrTooBig) {
		sr.missing = errors.Join(sr.missing, missing)
		return err
	}
	var a, b []Outcome
	if half := len(os) / 2; half > 0 {
		a, b = os[:half], os[half:]
	} else if first, second, ok := os[0].cut(); ok {
		a, b = []Outcome{first}, []Outcome{second}
	} else {
		sr.pass(os[0].ID, err)
		return nil
	}
	if err := sr.group(ctx, s, a); err != nil {
		return err
	}
	return sr.group(ctx, s, b)
}

// pass notes that an outcome cannot be written.
func (sr *settler) pass(id mail.ID, err error) {
	if sr.large == nil {
		sr.large = &TooLargeError{Err: err}
	}
	if !slices.Contains(sr.large.IDs, id) {
		sr.large.IDs = append(sr.large.IDs, id)
	}
}

func (s *Spool) settleGroup(ctx context.Context, os []Outcome) (missing, err error) {
	ps := make([]settling, len(os))
	for i := range os {
		ps[i].whole = os[i]
		if err = s.prepareOutcome(&ps[i]); err != nil {
			return nil, err
		}
	}
	err = s.update(ctx, func(t *tx) error {
		missing = nil
		for i := range ps {
			switch err := t.settle(&ps[i]); {
			case errors.Is(err, ErrNotFound):
				missing = errors.Join(missing, err)
			case err != nil:
				return err
			}
		}
		return nil
	})
	return missing, err
}

// cut divides an outcome into two with half of the changes each, between two
// rows if there are several. An event goes with the recipients it is about;
// one that is about none of those changed goes first.
func (o Outcome) cut() (a, b Outcome, ok bool) {
	if len(o.Changes) < 2 {
		return o, b, false
	}
	changes := slices.Clone(o.Changes)
	slices.SortStableFunc(changes, func(x, y Change) int { return x.Index - y.Index })
	half := len(changes) / 2
	for i := range half { // the end of a row that is nearest to the middle
		if n := half - i; n > 0 && changes[n-1].Index/chunkSize != changes[n].Index/chunkSize {
			half = n
			break
		}
		if n := half + i; n < len(changes) && changes[n-1].Index/chunkSize != changes[n].Index/chunkSize {
			half = n
			break
		}
	}
	a, b = Outcome{ID: o.ID, Changes: changes[:half]}, Outcome{ID: o.ID, Changes: changes[half:]}
	later := indexes(b.Changes)
	all := append(indexes(a.Changes), later...)
	for _, e := range o.Events {
		about := e.Recipients
		if len(about) == 0 {
			about = all
		}
		first, second := e, e
		first.Recipients, second.Recipients = nil, nil
		for _, i := range about {
			if _, found := slices.BinarySearch(later, i); found {
				second.Recipients = append(second.Recipients, i)
			} else {
				first.Recipients = append(first.Recipients, i)
			}
		}
		if len(first.Recipients) > 0 {
			a.Events = append(a.Events, first)
		}
		if len(second.Recipients) > 0 {
			b.Events = append(b.Events, second)
		}
	}
	return a, b, true
}

func indexes(changes []Change) []int {
	is := make([]int, len(changes))
	for i := range changes {
		is[i] = changes[i].Index
	}
	return is
}
