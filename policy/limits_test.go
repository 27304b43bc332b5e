package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestManyLimits: a decision may name as many limits as are taken at once, and
// one more is an error, which accepts nothing.
func TestManyLimits(t *testing.T) {
	for n, fails := range map[int]bool{maxLimits: false, maxLimits + 1: true} {
		rule := fmt.Sprintf(`limit contains {"rule": "hosts", "key": ["host", h], "count": "messages", "rate": 1, "per": "1h"} if some h in numbers.range(1, %d)`, n)
		rule = strings.Replace(rule, `["host", h]`, `["host", format_int(h, 10)]`, 1)
		e := open(t, folder(sender+rule), Options{})
		d, err := e.Sender(context.Background(), &SenderInput{Time: 1})
		switch {
		case fails && (err == nil || !strings.Contains(err.Error(), ":hosts: more than 64 limits in one decision")):
			t.Errorf("%d limits: %v", n, err)
		case !fails && (err != nil || len(d.Limits) != n):
			t.Errorf("%d limits: %v, %d in the decision", n, err, len(d.Limits))
		}
	}
}
