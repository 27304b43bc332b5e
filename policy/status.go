package policy

import (
	"slices"
	"time"
)

// Status tells which set is in force, whether a newer one could not be, and what
// was in force before.
type Status struct {
	Digest  string    // of the set in force
	Loaded  time.Time // when it came into force
	Default bool      // it is the built-in one, because no folder was there
	Path    string    // the folder it came from; empty: it is built in, or from bundles
	Err     error     // why the policies as they are now are not in force; nil when they are
	Since   time.Time // since when Err stands

	Bundles []BundleStatus // where it comes from, if not from a folder
	Failing []Failing      // the stages that could not decide in the last minute
	Pending *PendingSet    // what waits to be accepted; nil: nothing
	History []Activation   // the last sets that came into force, the newest first
}

// PendingSet is a set that waits to be accepted.
type PendingSet struct {
	Digest   string    `json:"digest"`
	Since    time.Time `json:"since"`
	Default  bool      `json:"default,omitempty"` // it is the built-in one, because no folder was there
	Reviewed bool      `json:"reviewed"`          // it was replayed, so that it can be accepted
	Review   *Review   `json:"review,omitempty"`  // what the last replay found
	Changes  Changes   `json:"changes"`           // from what is in force
}

// Activation is one set coming into force.
type Activation struct {
	Digest  string    `json:"digest"`
	At      time.Time `json:"at"`
	Default bool      `json:"default,omitempty"` // it was the built-in one
	By      string    `json:"by,omitempty"`      // who accepted it; empty: nobody had to
	Review  *Review   `json:"review,omitempty"`  // what the replay found on which it was accepted
	Unseen  bool      `json:"unseen,omitempty"`  // it was accepted without a replay
	Files   int       `json:"files"`             // Rego and data files it has
	Changes Changes   `json:"changes,omitzero"`  // from what was in force before
}

// maxHistory bounds how many activations are remembered.
const maxHistory = 20

// Status tells which set is in force.
func (e *Engine) Status() Status {
	bundles := e.bundles.states()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	if s.Bundles = bundles; !s.Default && e.bundles == nil {
		s.Path = e.o.Path
	}
	s.Failing = e.failed.recent()
	s.History = slices.Clone(e.history)
	slices.Reverse(s.History)
	if p := e.pending; p != nil {
		review := e.reviewOf(p.set.digest)
		s.Pending = &PendingSet{Digest: p.set.digest, Since: p.since, Default: p.isDefault, Reviewed: review != nil, Review: review, Changes: p.changes}
	}
	return s
}
