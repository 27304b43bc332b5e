package policy_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"behalf/mail"
	"behalf/policies"
	"behalf/policy"
)

// inputs are those of an ordinary message of a tenant without a plan, as a
// session would give them: what belongs to the session is the same each time.
type inputs struct {
	sender    policy.SenderInput
	recipient policy.RecipientInput
	message   policy.MessageInput
}

func ordinary() *inputs {
	common := policy.SenderInput{
		Time:       1_790_000_000_000_000_000,
		Session:    &policy.Session{Addr: "192.0.2.7", Helo: "app", TLS: "TLS 1.3 TLS_AES_128_GCM_SHA256", Door: mail.DoorSMTP},
		Tenant:     &policy.Tenant{ID: 712345, Name: "acme", Labels: map[string]string{"team": "emea"}, Methods: []mail.Method{"domain", "connection", "name"}},
		Credential: &policy.Credential{Username: "acme/app", Scope: "tenant"},
		Stream:     "transactional",
		Usage:      &policy.Usage{},
		Envelope:   policy.Envelope{From: "support@acme.example", FromDomain: "acme.example", Size: 4096},
	}
	return &inputs{
		sender:    common,
		recipient: policy.RecipientInput{SenderInput: common, Recipient: policy.Recipient{Address: "a@b.example", Domain: "b.example", Site: "b.example"}},
		message: policy.MessageInput{
			SenderInput: common,
			Identity:    policy.Identity{Address: "support@acme.example", Verified: true, Methods: []mail.Method{"domain"}},
			Message: policy.Message{
				Headers: [][2]string{{"From", "support@acme.example"}, {"To", "a@b.example"}, {"Subject", "Your ticket"}, {"Date", "Thu, 5 Nov 2026 12:00:00 +0000"}},
				From:    "support@acme.example", FromDomain: "acme.example", Subject: "Your ticket", MessageID: "<1@acme.example>", Size: 4096,
				Attachments: []policy.Attachment{{Filename: "invoice.pdf", ContentType: "application/pdf", Size: 3000}},
			},
			Candidates: []policy.Candidate{{Upstream: "mx", Method: "domain", Holds: true, Why: "key seen"}},
		},
	}
}

func engine(t testing.TB, dir fs.FS, o policy.Options) *policy.Engine {
	t.Helper()
	o.Defaults = dir
	e, err := policy.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// BenchmarkDefaults measures the default policies, stage by stage and for a
// message with one recipient.
func BenchmarkDefaults(b *testing.B) {
	e := engine(b, policies.FS, policy.Options{})
	in := ordinary()
	ctx := context.Background()
	must := func(d policy.Decision, err error) {
		if err != nil || d.Action != policy.Accept {
			b.Fatal(d, err)
		}
	}
	b.Run("sender", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(e.Sender(ctx, &in.sender))
		}
	})
	b.Run("recipient", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(e.Recipient(ctx, &in.recipient))
		}
	})
	b.Run("message", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(e.Message(ctx, &in.message))
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(e.Sender(ctx, &in.sender))
			must(e.Recipient(ctx, &in.recipient))
			must(e.Message(ctx, &in.message))
		}
	})
}

// BenchmarkPlainOPA is the same through rego.PreparedEvalQuery over the whole
// package with a map as input, as OPA's documentation has it.
func BenchmarkPlainOPA(b *testing.B) {
	in := ordinary()
	ctx := context.Background()
	var queries []rego.PreparedEvalQuery
	var maps []map[string]any
	for i, v := range []any{&in.sender, &in.recipient, &in.message} {
		options := []func(*rego.Rego){rego.Query("data." + policy.Packages()[i]), rego.StrictBuiltinErrors(true),
			rego.Store(inmem.NewFromObject(defaultData(b)))}
		entries, _ := fs.ReadDir(policies.FS, ".")
		for _, f := range entries {
			if !strings.HasSuffix(f.Name(), ".rego") || strings.HasSuffix(f.Name(), "_test.rego") {
				continue
			}
			src, _ := fs.ReadFile(policies.FS, f.Name())
			options = append(options, rego.Module(f.Name(), string(src)))
		}
		q, err := rego.New(options...).PrepareForEval(ctx)
		if err != nil {
			b.Fatal(err)
		}
		queries = append(queries, q)
		raw, _ := json.Marshal(v)
		m := map[string]any{}
		if err := json.Unmarshal(raw, &m); err != nil {
			b.Fatal(err)
		}
		maps = append(maps, m)
	}
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i, q := range queries {
				if r, err := q.Eval(ctx, rego.EvalInput(maps[i])); err != nil || len(r) != 1 {
					b.Fatal(r, err)
				}
			}
		}
	})
}

func defaultData(t testing.TB) map[string]any {
	t.Helper()
	return map[string]any{
		"plans":       map[string]any{"default": map[string]any{"recipients_per_message": json.Number("1000")}},
		"attachments": map[string]any{"extensions": []any{"exe", "js"}, "content_types": []any{"application/x-msdownload"}},
	}
}

// BenchmarkFloor is the least that asking costs: one rule that an index excludes.
func BenchmarkFloor(b *testing.B) {
	e := engine(b, fstest.MapFS{"a.rego": {Data: []byte(`package behalf.submission.sender
deny contains {"rule": "never", "reason": "never"} if input.stream == "never"
`)}}, policy.Options{})
	in := ordinary()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Sender(context.Background(), &in.sender); err != nil {
			b.Fatal(err)
		}
	}
}
