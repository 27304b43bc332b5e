package upstreamtest

import (
	"context"
	"testing"
	"time"

	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
)

// RunBusy checks what becomes of a job that finds all our sessions in use. open
// makes an upstream that keeps one session at most and has the time opening for
// making it.
func RunBusy(t *testing.T, opening time.Duration, open OpenSMTP) {
	t.Helper()
	t.Run("one comes free", func(t *testing.T) {
		free := make(chan bool)
		p, u := start(t, open, smtppeer.Options{On: hold(free)})
		first := make(chan *mail.Failure, 1)
		go func() { first <- u.Deliver(t.Context(), Job(&Mail{Data: Content}, "1@b.test"))[0].Failure }()
		waitFor(t, func() bool { return p.Conns() == 1 })
		wait := 2 * opening // longer than reaching a host may take
		began := time.Now()
		time.AfterFunc(wait, func() { close(free) })
		r := Deliver(t, u, t.Context(), Job(&Mail{Data: Content}, "2@b.test"))[0]
		if f := <-first; f != nil || r.Failure != nil {
			t.Errorf("%v, %v", f, r.Failure)
		}
		if r.Start.Sub(began) < wait/2 || r.Took > wait {
			t.Errorf("began %v after the call and took %v, with the wait of %v counted in", r.Start.Sub(began), r.Took, wait)
		}
	})
	t.Run("none comes free", func(t *testing.T) {
		free := make(chan bool)
		p, u := start(t, open, smtppeer.Options{On: hold(free)})
		first := make(chan *mail.Failure, 1)
		go func() { first <- u.Deliver(t.Context(), Job(&Mail{Data: Content}, "1@b.test"))[0].Failure }()
		waitFor(t, func() bool { return p.Conns() == 1 })
		ctx, cancel := context.WithTimeout(t.Context(), opening)
		defer cancel()
		f := Deliver(t, u, ctx, Job(&Mail{Data: Content}, "2@b.test"))[0].Failure
		if f == nil || f.Code != 451 || f.Enhanced != (mail.Enhanced{4, 3, 2}) || f.Scope != mail.OfUs || f.Stage != mail.StagePrepare {
			t.Errorf("%+v", f)
		}
		if ctx.Err() != nil {
			t.Error("no time was left for reaching the host")
		}
		close(free)
		if f := <-first; f != nil {
			t.Error(f)
		}
	})
}

// hold keeps every session from answering MAIL until free is closed, and then
// ends it after its message, so that the next must dial.
func hold(free chan bool) func(smtppeer.Step) smtppeer.Action {
	return func(s smtppeer.Step) smtppeer.Action {
		switch s.Verb {
		case "MAIL":
			<-free
		case "DOT":
			return smtppeer.Action{Reply: "250 2.0.0 taken", Close: true}
		}
		return smtppeer.Action{}
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if what() {
			return
		}
	}
	t.Fatal("it did not happen")
}
