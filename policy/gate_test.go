package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// rules is a folder with one rule that denies for this reason.
func denying(reason string) fstest.MapFS {
	return folder(sender + "deny contains {\"rule\": \"r\", \"reason\": \"" + reason + "\"}\n")
}

// says is the reason of the set in force.
func says(t *testing.T, p interface {
	Sender(context.Context, *SenderInput) (Decision, error)
}) string {
	t.Helper()
	d, err := p.Sender(t.Context(), &SenderInput{})
	if err != nil {
		t.Fatal(err)
	}
	return d.Reason
}

func offer(t *testing.T, e *Engine, set fstest.MapFS) error {
	t.Helper()
	src, err := readSource(set)
	if err != nil {
		t.Fatal(err)
	}
	return e.offer(src)
}

// seen is a replay that found out something.
var seen = Review{Decisions: 4, Asked: 3, Differing: 1}

// TestGate: a changed set waits until it was replayed and accepted; a restart
// begins with what was accepted.
func TestGate(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "policy")
	o := Options{Gate: true, Keep: keep}
	e := open(t, denying("one"), o)
	if _, waits := e.Pending(); waits || says(t, e) != "one" {
		t.Fatalf("the first start did not accept what is there: %+v", e.Status())
	}
	if err := offer(t, e, denying("two")); err != nil {
		t.Fatal(err)
	}
	p, waits := e.Pending()
	if !waits || says(t, e) != "one" || says(t, p) != "two" {
		t.Fatalf("the changed set does not wait: %+v", e.Status())
	}
	st := e.Status().Pending
	if st == nil || st.Digest != p.Digest() || st.Reviewed || len(st.Changes.Rules) != 1 || st.Changes.Rules[0].Change != Changed {
		t.Errorf("pending %+v", st)
	}
	if err := e.Accept("0123", "admin", false); !errors.Is(err, ErrNotPending) {
		t.Errorf("another digest: %v", err)
	}
	if err := e.Accept(p.Digest(), "admin", false); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("unseen: %v", err)
	}
	e.Reviewed(p.Digest(), Review{Decisions: 7}) // none of them was asked
	if err := e.Accept(p.Digest(), "admin", false); !errors.Is(err, ErrNotReviewed) || e.Status().Pending.Reviewed {
		t.Errorf("seen, but nothing was asked: %v", err)
	}
	e.Reviewed(p.Digest(), seen)
	if st := e.Status().Pending; !st.Reviewed || st.Review == nil || st.Review.Asked != 3 {
		t.Errorf("the review does not show: %+v", st)
	}

	// Before it is accepted, a restart begins with the old one.
	e = open(t, denying("two"), o)
	if st := e.Status(); says(t, e) != "one" || st.Pending == nil || st.Pending.Digest != p.Digest() || st.Err != nil {
		t.Errorf("after a restart: %+v", st)
	}
	e.Reviewed(p.Digest(), seen)
	if err := e.Accept(p.Digest(), "admin", false); err != nil {
		t.Fatal(err)
	}
	st2 := e.Status()
	if r := st2.History[0].Review; r == nil || r.Asked != 3 || st2.History[0].Unseen {
		t.Errorf("the history does not tell of the review: %+v", st2.History[0])
	}
	if says(t, e) != "two" || st2.Pending != nil || len(st2.History) != 2 || st2.History[0].By != "admin" || st2.History[0].Changes.Rules[0].Rule != "r" {
		t.Errorf("after accepting: %+v", st2)
	}
	if err := e.Accept(p.Digest(), "admin", false); !errors.Is(err, ErrNotPending) {
		t.Errorf("twice: %v", err)
	}

	// From now on it is the one to begin with, even where the folder is broken.
	e = open(t, folder(sender+"deny contains {"), o)
	if st := e.Status(); says(t, e) != "two" || st.Pending != nil || st.Err == nil || len(st.History) != 2 {
		t.Errorf("after a restart with a broken folder: %+v", st)
	}
}

// TestGateForced: where nothing is there to replay, somebody may answer for the
// set, which is told for as long as the history goes back.
func TestGateForced(t *testing.T) {
	o := Options{Gate: true, Keep: filepath.Join(t.TempDir(), "policy")}
	e := open(t, denying("one"), o)
	if err := offer(t, e, denying("two")); err != nil {
		t.Fatal(err)
	}
	p, _ := e.Pending()
	if err := e.Accept(p.Digest(), "admin", true); err != nil || says(t, e) != "two" {
		t.Fatalf("not accepted: %v", err)
	}
	e = open(t, denying("two"), o)
	if a := e.Status().History[0]; !a.Unseen || a.By != "admin" || a.Review != nil {
		t.Errorf("the history does not tell: %+v", a)
	}
}

// TestGateWithdraws: what is not there any more does not wait any longer.
func TestGateWithdraws(t *testing.T) {
	e := open(t, denying("one"), Options{Gate: true})
	for _, back := range []fstest.MapFS{denying("one"), folder("package x\ny := z")} {
		if err := offer(t, e, denying("two")); err != nil {
			t.Fatal(err)
		}
		_ = offer(t, e, back) // the second one does not compile
		if _, waits := e.Pending(); waits {
			t.Error("it waits though it is not there any more")
		}
	}
}

// TestGateKeepsOrRefuses: what cannot be kept is not accepted, and what cannot be
// read back stops the start with a sentence that says what to do.
func TestGateKeepsOrRefuses(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "policy")
	e := open(t, denying("one"), Options{Gate: true, Keep: keep})
	if err := offer(t, e, denying("two")); err != nil {
		t.Fatal(err)
	}
	p, _ := e.Pending()
	e.Reviewed(p.Digest(), seen)
	if err := os.Rename(keep, keep+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Accept(p.Digest(), "admin", false); err == nil || says(t, e) != "one" {
		t.Errorf("accepted though it was not kept: %v", err)
	}
	if err := os.Remove(keep); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(keep+".away", keep); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keep, keptName), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(t.Context(), Options{Gate: true, Keep: keep, Defaults: denying("two")})
	if err == nil || !strings.Contains(err.Error(), "remove that file") {
		t.Errorf("started with a damaged file: %v", err)
	}
	if _, err := New(t.Context(), Options{Keep: keep, Defaults: denying("two")}); err != nil {
		t.Errorf("without a gate a damaged file stops the start: %v", err)
	}
}

// TestCandidate: a set that is tried aside is neither in force nor counted.
func TestCandidate(t *testing.T) {
	e := open(t, denying("one"), Options{Concurrency: 1})
	e.turns <- struct{}{} // live traffic has all turns
	p, err := e.Candidate(t.Context(), denying("two"))
	if err != nil {
		t.Fatal(err)
	}
	if says(t, p) != "two" || !p.Needs().Sender {
		t.Error("a candidate does not answer")
	}
	<-e.turns
	if says(t, e) != "one" || says(t, e.Active()) != "one" || e.Active().Digest() == p.Digest() {
		t.Error("a candidate came into force")
	}
	var problems Problems
	if _, err := e.Candidate(t.Context(), folder("package x\ny := z")); !errors.As(err, &problems) {
		t.Errorf("error %v", err)
	}
}

// TestFolderMissingAtStart: where a set of the site's own was in force, a folder
// that is not there yet does not put the built-in rules in its place.
func TestFolderMissingAtStart(t *testing.T) {
	for _, gate := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "policies")
		o := Options{Path: dir, Gate: gate, Keep: filepath.Join(t.TempDir(), "policy"), Watch: true}
		start := func(builtIn string) *Engine {
			t.Helper()
			o.Defaults = denying(builtIn)
			return running(t, o)
		}
		if e := start("built in"); says(t, e) != "built in" || e.Status().Err != nil {
			t.Fatalf("gate %v: a first start without a folder: %+v", gate, e.Status())
		}
		if !gate {
			// What was built in is not the site's own, and another release has another.
			if e := start("built in later"); says(t, e) != "built in later" || e.Status().Err != nil {
				t.Errorf("what is built in now is not in force: %+v", e.Status())
			}
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "p.rego", deny("own"))
		e := start("built in")
		if gate {
			if err := e.Accept(e.Status().Pending.Digest, "admin", true); err != nil {
				t.Fatal(err)
			}
		}
		if says(t, e) != "own" {
			t.Fatal("the site's own rules are not in force")
		}
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		e = start("built in")
		reasons, warnings := e.Status().Health()
		if says(t, e) != "own" || e.Status().Pending != nil || len(reasons) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "is not there") {
			t.Errorf("gate %v: without the folder: %s, %q, %q", gate, says(t, e), reasons, warnings)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the folder that came late does not count", func() bool { return e.Status().Err == nil })
		write(t, dir, "p.rego", deny("changed"))
		eventually(t, "changes are not taken", func() bool { return e.Status().Pending != nil || says(t, e) == "changed" })
	}
}
