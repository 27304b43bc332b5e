package duration

import (
	"testing"
	"time"
)

func TestText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 20 * time.Second: "20s",
		1500 * time.Millisecond: "1.5s", time.Hour + time.Second: "1h0m1s", 0: "0s", 100 * time.Hour: "100h",
	} {
		if got := Text(d); got != want {
			t.Errorf("%d is %s, want %s", d, got, want)
		}
	}
}
