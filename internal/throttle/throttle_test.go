package throttle

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestThrottle(t *testing.T) {
	home, other := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("198.51.100.1")
	t.Run("a name from one network", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			th := New()
			var last time.Duration
			for i := range 5 {
				if w := th.Blocked(home, "acme/app"); w != 0 {
					t.Fatalf("shut out for %v after %d failures", w, i)
				}
				d := th.Failed(home, "ACME/app")
				if d <= last || d > MaxDelay {
					t.Errorf("failure %d is answered after %v, the one before %v", i, d, last)
				}
				last = d
			}
			if w := th.Blocked(home, "acme/app"); w != time.Minute {
				t.Errorf("after five failures shut out for %v", w)
			}
			if th.Blocked(netip.MustParseAddr("::ffff:192.0.2.99"), "acme/app") == 0 {
				t.Error("a neighbour in the network is not shut out")
			}
			if th.Blocked(other, "acme/app") != 0 || th.Blocked(home, "globex/app") != 0 {
				t.Error("others are shut out")
			}
			th.Succeeded(home, "globex/app")
			if th.Blocked(home, "acme/app") == 0 {
				t.Error("another's success opened the door")
			}
			time.Sleep(time.Minute)
			if th.Blocked(home, "acme/app") != 0 {
				t.Error("still shut out a minute later")
			}
			th.Failed(home, "acme/app")
			if th.Blocked(home, "acme/app") == 0 {
				t.Error("a minute gave back more than one try")
			}
			th.Succeeded(home, "acme/app")
			if th.Blocked(home, "acme/app") != 0 {
				t.Error("one's own success does not count")
			}
		})
	})
	t.Run("a network that tries many names", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			th := New()
			th.Succeeded(home, "acme/app")
			for i := range 40 {
				th.Failed(home, fmt.Sprint("guess", i))
			}
			if th.Blocked(home, "fresh") == 0 {
				t.Error("the network is not shut out")
			}
			if th.Blocked(home, "acme/app") != 0 {
				t.Error("a name that is at home there is shut out")
			}
			time.Sleep(goodFor + time.Hour)
			for i := range 40 {
				th.Failed(home, fmt.Sprint("guess", i))
			}
			if th.Blocked(home, "acme/app") == 0 {
				t.Error("a login of yesterday counts for ever")
			}
		})
	})
	t.Run("the table is bounded", func(t *testing.T) {
		th := New()
		for i := range maxKeys {
			th.Failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), fmt.Sprint(i))
		}
		if n := th.table.Len(); n != maxKeys {
			t.Errorf("%d keys", n)
		}
	})
}
