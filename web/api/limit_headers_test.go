package api

import (
	"net/http"
	"testing"
	"time"

	"behalf/mail"
	"behalf/policy"
	"behalf/relay"
)

// A refusal by a limit tells its quota and when to come again; one by a limit
// that is shared with others leaves that to Retry-After.
func TestRefusalHeaders(t *testing.T) {
	for shared, want := range map[bool]http.Header{
		false: {"Ratelimit-Policy": {`"daily";q=20;w=86400`}, "Ratelimit": {`"daily";r=0;t=60`}},
		true:  {},
	} {
		over := relay.OverLimit{LimitStanding: relay.LimitStanding{Shared: shared, Wait: time.Minute,
			Limit: policy.Limit{Rule: "limits.rego:daily", Count: policy.CountMessages, Rate: 20, Per: 24 * time.Hour, Burst: 20}}}
		h := http.Header{}
		ofRefusal(h, &mail.Failure{Code: 452, Err: &over})
		if len(h) != len(want) || h.Get("RateLimit-Policy") != want.Get("RateLimit-Policy") || h.Get("RateLimit") != want.Get("RateLimit") {
			t.Errorf("shared %t: %v", shared, h)
		}
	}
}
