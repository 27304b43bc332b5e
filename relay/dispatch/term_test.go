package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Attempts share a context while that leaves each nearly all of its time, and
// none has more than that.
func TestTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, stop := context.WithCancel(t.Context())
		defer stop()
		const each = 16 * time.Minute
		var tm term
		defer tm.end()
		made := map[context.Context]bool{}
		for range 300 {
			ctx := tm.of(base, time.Now(), each)
			made[ctx] = true
			end, _ := ctx.Deadline()
			if left := time.Until(end); ctx.Err() != nil || left > each || left < each*15/16 {
				t.Fatalf("%v left, %v", left, ctx.Err())
			}
			time.Sleep(10 * time.Second)
		}
		if n := len(made); n < 50 || n > 60 {
			t.Errorf("%d contexts for 50 minutes", n)
		}
		ctx := tm.of(base, time.Now(), each)
		stop()
		if ctx.Err() == nil {
			t.Error("it goes on when the dispatcher is told to stop")
		}
	})
}
