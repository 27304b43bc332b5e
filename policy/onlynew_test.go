package policy_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"behalf/policy"
)

// TestHoldOfWhom: a hold is of new recipients alone when every hold says so, and
// what "recipients" may say is checked.
func TestHoldOfWhom(t *testing.T) {
	const (
		fresh = `hold contains {"rule": "a", "reason": "odd", "recipients": "new"}` + "\n"
		all   = `hold contains {"rule": "b", "reason": "odd", "recipients": "all"}` + "\n"
		whole = `hold contains {"rule": "c", "reason": "odd"}` + "\n"
	)
	for _, c := range []struct {
		name, rules string
		action      policy.Action
		onlyNew     bool
		err         string
	}{
		{name: "new", rules: fresh, action: policy.Hold, onlyNew: true},
		{name: "all", rules: all, action: policy.Hold},
		{name: "not said", rules: whole, action: policy.Hold},
		{name: "new, and all", rules: fresh + all, action: policy.Hold},
		{name: "new, and not said", rules: whole + fresh, action: policy.Hold},
		{name: "new twice", rules: fresh + strings.Replace(fresh, `"a"`, `"d"`, 1), action: policy.Hold, onlyNew: true},
		{name: "refused as well", rules: fresh + `deny contains {"rule": "d", "reason": "no"}`, action: policy.Deny},
		{name: "nobody", rules: strings.Replace(fresh, `"new"`, `"old"`, 1), err: "recipients"},
		{name: "no text", rules: strings.Replace(fresh, `"new"`, `7`, 1), err: "recipients"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := fstest.MapFS{"p.rego": {Data: []byte("package behalf.submission.message\n" + c.rules)}}
			e, err := policy.New(t.Context(), policy.Options{Defaults: fs})
			var d policy.Decision
			if err == nil {
				d, err = e.Message(t.Context(), &policy.MessageInput{})
			}
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || d.Action != c.action || d.OnlyNew != c.onlyNew {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}
