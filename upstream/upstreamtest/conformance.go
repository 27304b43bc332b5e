package upstreamtest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"behalf/mail"
	"behalf/upstream"
)

// Arrival is a message as it came out at the other end, once a recipient.
type Arrival struct{ From, To, Data string }

// Rig is an upstream and a view of its other end.
type Rig struct {
	Upstream upstream.Upstream
	Arrived  func() []Arrival
}

// Run checks what holds for every upstream. It makes a new rig for each case.
func Run(t *testing.T, open func(t *testing.T) Rig) {
	for name, check := range map[string]func(*testing.T, Rig){
		"one result each, in order":            checkOrder,
		"nobody to send to":                    checkNobody,
		"each recipient has its sender":        checkSenders,
		"the octets arrive as rendered":        checkContent,
		"a job that cannot be rendered":        checkRender,
		"a message that cannot be prepared":    checkPrepare,
		"a body that cannot be read to an end": checkCut,
		"a context that has ended":             checkCancelled,
		"many jobs at once":                    checkParallel,
	} {
		t.Run(name, func(t *testing.T) {
			NoLeaks(t)
			r := open(t)
			if c, ok := r.Upstream.(io.Closer); ok {
				t.Cleanup(func() { c.Close() })
			}
			check(t, r)
		})
	}
}

// Deliver makes the attempt and checks what always holds of its results.
func Deliver(t testing.TB, u upstream.Upstream, ctx context.Context, j *upstream.Job) []upstream.Result {
	t.Helper()
	rs := u.Deliver(ctx, j)
	if len(rs) != len(j.To) {
		t.Fatalf("%d results for %d recipients", len(rs), len(j.To))
	}
	for i, r := range rs {
		if r.Start.IsZero() || r.Took < 0 {
			t.Errorf("recipient %d: no times: %+v", i, r)
		}
		f := r.Failure
		if f == nil {
			continue
		}
		if f.Code < 400 || f.Code > 599 || f.Enhanced[0] != f.Code/100 || f.Text == "" || f.Reason == "" {
			t.Errorf("recipient %d: half a failure: %+v", i, f)
		}
	}
	return rs
}

// Failures gives the failures of results, nil where there is none.
func Failures(rs []upstream.Result) []*mail.Failure {
	fs := make([]*mail.Failure, len(rs))
	for i, r := range rs {
		fs[i] = r.Failure
	}
	return fs
}

func checkOrder(t *testing.T, r Rig) {
	j := Job(&Mail{Data: Content}, "c@b.test", "a@b.test", "b@b.test")
	for i, res := range Deliver(t, r.Upstream, t.Context(), j) {
		if res.Failure != nil {
			t.Errorf("recipient %d: %v", i, res.Failure)
		}
		if res.Host == "" || res.Reply == "" || len(res.Signed) != 1 {
			t.Errorf("recipient %d: the trace lacks something: %+v", i, res)
		}
	}
	if n := len(r.Arrived()); n != 3 {
		t.Errorf("%d arrived", n)
	}
}

func checkNobody(t *testing.T, r Rig) {
	if rs := Deliver(t, r.Upstream, t.Context(), Job(&Mail{Data: Content})); len(rs) != 0 || len(r.Arrived()) != 0 {
		t.Error(rs, r.Arrived())
	}
}

func checkSenders(t *testing.T, r Rig) {
	m := &Mail{Data: Content}
	pairs := []string{"v1@a.test>1@b.test", "v1@a.test>2@b.test", ">3@b.test", "v4@a.test>4@b.test"}
	Deliver(t, r.Upstream, t.Context(), Job(m, pairs...))
	got := map[string]string{}
	for _, a := range r.Arrived() {
		got[a.To] = a.From
	}
	for to, from := range map[string]string{"1@b.test": "v1@a.test", "2@b.test": "v1@a.test", "3@b.test": "", "4@b.test": "v4@a.test"} {
		if f, ok := got[to]; !ok || f != from {
			t.Errorf("%s: sender %q (arrived: %v), want %q", to, f, ok, from)
		}
	}
	if n := m.Prepared.Load(); n != 1 {
		t.Errorf("Prepare was called %d times", n)
	}
}

func checkContent(t *testing.T, r Rig) {
	Deliver(t, r.Upstream, t.Context(), Job(&Mail{Data: Content}, "1@b.test"))
	got := r.Arrived()
	if len(got) != 1 || got[0].Data != Content {
		t.Errorf("arrived %q, want %q", got, Content)
	}
}

func checkRender(t *testing.T, r Rig) {
	j := Job(nil, "1@b.test", "2@b.test")
	want := mail.Fail(554, mail.Enhanced{5, 6, 3}, mail.OfMessage, mail.ReasonCannotCarry, "cannot be carried")
	j.Render = func(context.Context, upstream.Caps) (upstream.Rendered, error) { return nil, want }
	if fs := Failures(Deliver(t, r.Upstream, t.Context(), j)); !slices.Equal(fs, []*mail.Failure{want, want}) {
		t.Error(fs)
	}
}

func checkPrepare(t *testing.T, r Rig) {
	j := Job(&Mail{Data: Content, Bad: errors.New("no key")}, "1@b.test", "2@b.test")
	ours(t, r, Deliver(t, r.Upstream, t.Context(), j))
}

func checkCut(t *testing.T, r Rig) {
	j := Job(&Mail{Data: Content, Cut: 60}, "1@b.test", "2@b.test")
	ours(t, r, Deliver(t, r.Upstream, t.Context(), j))
}

// ours wants every recipient to have a failure of our own, and nothing sent.
func ours(t *testing.T, r Rig, rs []upstream.Result) {
	t.Helper()
	for i, f := range Failures(rs) {
		if f == nil || f.Scope != mail.OfUs || !f.Temporary() {
			t.Errorf("recipient %d: %+v, want our own temporary failure", i, f)
		}
	}
	if a := r.Arrived(); len(a) != 0 {
		t.Errorf("arrived: %q", a)
	}
}

func checkCancelled(t *testing.T, r Rig) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	rs := Deliver(t, r.Upstream, ctx, Job(&Mail{Data: Content}, "1@b.test", "2@b.test"))
	ours(t, r, rs)
	if took := time.Since(began); took > patience {
		t.Errorf("took %v", took)
	}
}

func checkParallel(t *testing.T, r Rig) {
	const jobs = 40
	failed := make(chan *mail.Failure, jobs)
	for range jobs {
		go func() {
			rs := r.Upstream.Deliver(t.Context(), Job(&Mail{Data: Content}, "1@b.test"))
			failed <- rs[0].Failure
		}()
	}
	for range jobs {
		if f := <-failed; f != nil {
			t.Error(f)
		}
	}
	if n := len(r.Arrived()); n != jobs {
		t.Errorf("%d of %d arrived", n, jobs)
	}
}
