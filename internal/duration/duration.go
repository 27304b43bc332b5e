// Package duration writes spans of time for people.
package duration

import (
	"strings"
	"time"
)

// Text is a duration without the units that are zero: 24h, 1h30m, 1.5s.
func Text(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
