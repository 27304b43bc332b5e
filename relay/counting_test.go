package relay

import (
	"testing"
	"time"

	"behalf/limit"
	"behalf/policy"
)

// TestStricter: of a limit that a stage gives twice the stricter holds, in every
// way and in either order, for what is counted now and for what a later stage
// counts.
func TestStricter(t *testing.T) {
	const h = time.Hour
	base := policy.Limit{Rule: "f.rego:l", Key: []string{"k"}, Count: policy.CountMessages, Rate: 10, Per: h, Burst: 10, Over: policy.OverPace}
	with := func(rate float64, burst int64, over policy.Over, wait time.Duration) policy.Limit {
		l := base
		l.Rate, l.Burst, l.Over, l.MaxWait = rate, burst, over, wait
		return l
	}
	for _, c := range []struct {
		name       string
		a, b, want policy.Limit
	}{
		{"rate", with(5, 10, policy.OverDefer, 0), with(10, 3, policy.OverDefer, 0), with(5, 3, policy.OverDefer, 0)},
		{"defer before hold", with(1, 1, policy.OverDefer, 0), with(1, 1, policy.OverHold, 0), with(1, 1, policy.OverDefer, 0)},
		{"hold before pace", with(1, 1, policy.OverHold, 0), with(1, 1, policy.OverPace, 0), with(1, 1, policy.OverHold, 0)},
		{"defer before pace", with(1, 1, policy.OverDefer, 0), with(1, 1, policy.OverPace, 0), with(1, 1, policy.OverDefer, 0)},
		{"a longest wait before none", with(1, 1, policy.OverPace, 0), with(1, 1, policy.OverPace, h), with(1, 1, policy.OverPace, h)},
		{"the shorter wait", with(1, 1, policy.OverHold, 2*h), with(1, 1, policy.OverHold, h), with(1, 1, policy.OverHold, h)},
	} {
		for _, pair := range [][]policy.Limit{{c.a, c.b}, {c.b, c.a}} {
			for _, at := range []struct {
				count      policy.Count
				named, now string
			}{
				{policy.CountMessages, "", policy.PackageSender},
				{policy.CountRecipients, policy.PackageSender, policy.PackageRecipient},
				{policy.CountBytes, policy.PackageSender, policy.PackageMessage},
			} {
				said := []policy.Limit{pair[0], pair[1]}
				for i := range said {
					said[i].Count = at.count
				}
				var count Counting
				if at.named != "" {
					count.gather(Stage{Package: at.named}, said)
					said = nil
				}
				count.gather(Stage{Package: at.now, Size: 1}, said)
				b := &count.batch
				if len(b.asks) != 1 {
					t.Fatalf("%s, %s: %d asks", c.name, at.count, len(b.asks))
				}
				got, a := b.rules[0], b.asks[0]
				if got.Rate != c.want.Rate || got.Burst != c.want.Burst || got.Over != c.want.Over || got.MaxWait != c.want.MaxWait {
					t.Errorf("%s, %s: %+v", c.name, at.count, got)
				}
				if a.Rate != got.Rate || a.Burst != got.Burst || a.Over != limit.Over(got.Over) || a.MaxWait != got.MaxWait || a.N != 1 {
					t.Errorf("%s, %s: asked is %+v", c.name, at.count, a)
				}
			}
		}
	}
}
