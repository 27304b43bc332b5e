package limit

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"behalf/internal/kv/mem"
)

func percents(v Verdict) (list []int) {
	for _, w := range v.Warnings {
		list = append(list, w.Percent)
	}
	return list
}

// TestWarnings plays requests against 20 in an hour and shows what is warned of.
func TestWarnings(t *testing.T) {
	l := New(Options{})
	hour := Ask{Key: KeyOf("h"), Rate: 20, Per: time.Hour, Burst: 20}
	step := 3 * time.Minute // in which one comes back
	for i, c := range []struct {
		at   time.Duration
		n    int64
		want []int
	}{
		{0, 14, nil},
		{0, 1, []int{75}},
		{0, 1, nil},
		{0, 2, []int{90}},
		{0, 2, nil},         // all are used, and nobody was refused
		{0, 1, []int{100}},  // refused
		{0, 1, nil},         // again
		{step, 1, nil},      // one came back
		{step, 1, nil},      // refused, but within the period of the first warning
		{50 * step, 1, nil}, // long since full again
		{50 * step, 18, []int{90}},
		{50 * step, 2, []int{100}},  // refused, one is left
		{50*step + 5*step, 1, nil},  // 75 is warned of by the 90 of this excursion
		{50*step + 10*step, 1, nil}, // below both again, but it is one period at least
		{72 * step, 20, []int{90}},  // another period
		{82 * step, 9, nil},         // again, too early
		{92 * step, 9, []int{90}},   // a period after the last time
		{93 * step, 4, []int{100}},  // refused: its own window has passed
		{99 * step, 99, nil},        // more than there ever are
		{99*step + 48*time.Hour, 99, nil},
		{99*step + 49*time.Hour, 15, []int{75}}, // a new day
	} {
		a := hour
		a.N = c.n
		_, v := reserve(l, at(c.at), []Ask{a})
		if got := percents(v); !slices.Equal(got, c.want) {
			t.Errorf("step %d, %d after %v: warned of %v, want %v", i, c.n, c.at, got, c.want)
		}
	}
}

// TestWarningStaysAbove: who is above a threshold for longer than the period is
// warned of it once.
func TestWarningStaysAbove(t *testing.T) {
	l := New(Options{})
	ask := Ask{Key: KeyOf("h"), Rate: 20, Per: time.Hour, Burst: 20, N: 17}
	told := 0
	for d := time.Duration(0); d < 5*time.Hour; d += 3 * time.Minute {
		_, v := reserve(l, at(d), []Ask{ask})
		told += len(v.Warnings)
		ask.N = 1
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// TestWarningOnceAtOnce: of 20 at a time one hears of each threshold, also where
// every third gives its turn back, and none again after a restart.
func TestWarningOnceAtOnce(t *testing.T) {
	l := New(Options{})
	now := time.Now()
	ask := Ask{Key: KeyOf("d"), Rate: 1000, Per: 24 * time.Hour, Burst: 1000}
	var mu sync.Mutex
	told := map[int]int{}
	run := func(l *Limiter) {
		var wg sync.WaitGroup
		for g := range 20 {
			wg.Go(func() {
				for i := range 100 {
					r, v := reserve(l, now, []Ask{ask})
					if v.OK && (g+i)%3 == 0 {
						r.Abort(now)
						continue
					}
					mu.Lock()
					for _, p := range percents(v) {
						told[p]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	run(l)
	if fmt.Sprint(told) != "map[75:1 90:1 100:1]" {
		t.Errorf("told %v, want each once", told)
	}
	store := mem.New(mem.Options{})
	defer store.Close()
	if err := l.Snapshot(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	again := New(Options{})
	if err := again.Load(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	run(again)
	if fmt.Sprint(told) != "map[75:1 90:1 100:1]" {
		t.Errorf("after a restart told %v", told)
	}
}

// TestNoWordForSmallLimits: three of four are no reason to warn, a refusal is.
func TestNoWordForSmallLimits(t *testing.T) {
	l := New(Options{})
	ask := Ask{Key: KeyOf("s"), Rate: 4, Per: time.Hour, Burst: 4}
	for i := range 6 {
		_, v := reserve(l, start, []Ask{ask})
		if want := map[int]string{4: "[100]"}[i]; fmt.Sprint(percents(v)) != want && (want != "" || len(v.Warnings) > 0) {
			t.Errorf("request %d: %v", i, percents(v))
		}
	}
}
