package policy_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
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

// cpu measures f, by what it costs the process too: on a busy machine the clock
// says little.
func cpu(b *testing.B, f func()) {
	b.Helper()
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	before := used()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkDefaults measures the default policies, stage by stage and for a
// message with one recipient.
func BenchmarkDefaults(b *testing.B) {
	e := engine(b, policies.FS, policy.Options{})
	ctx := context.Background()
	stages(b,
		func(in *policy.SenderInput) (policy.Decision, error) { return e.Sender(ctx, in) },
		func(in *policy.RecipientInput) (policy.Decision, error) { return e.Recipient(ctx, in) },
		func(in *policy.MessageInput) (policy.Decision, error) { return e.Message(ctx, in) })
}

// BenchmarkMade is the same with each decision made, as for a question that none
// before was like.
func BenchmarkMade(b *testing.B) {
	p := engine(b, policies.FS, policy.Options{}).Active()
	ctx := context.Background()
	stages(b,
		func(in *policy.SenderInput) (policy.Decision, error) { return p.Sender(ctx, in) },
		func(in *policy.RecipientInput) (policy.Decision, error) { return p.Recipient(ctx, in) },
		func(in *policy.MessageInput) (policy.Decision, error) { return p.Message(ctx, in) })
}

// BenchmarkTopdown is the same on OPA's evaluator.
func BenchmarkTopdown(b *testing.B) {
	e := engine(b, policies.FS, policy.Options{})
	ctx := context.Background()
	stages(b,
		func(in *policy.SenderInput) (policy.Decision, error) { return e.Topdown(ctx, policy.PackageSender, in) },
		func(in *policy.RecipientInput) (policy.Decision, error) {
			return e.Topdown(ctx, policy.PackageRecipient, in)
		},
		func(in *policy.MessageInput) (policy.Decision, error) {
			return e.Topdown(ctx, policy.PackageMessage, in)
		})
}

func stages(b *testing.B, sender func(*policy.SenderInput) (policy.Decision, error),
	recipient func(*policy.RecipientInput) (policy.Decision, error), message func(*policy.MessageInput) (policy.Decision, error)) {
	in := ordinary()
	must := func(d policy.Decision, err error) {
		if err != nil || d.Action != policy.Accept {
			b.Fatal(d, err)
		}
	}
	s := func() { must(sender(&in.sender)) }
	r := func() { must(recipient(&in.recipient)) }
	n := int64(0)
	m := func() { // no two are the same
		n++
		in.message.Time, in.message.Message.Size, in.message.Message.MessageID = n, n, strconv.FormatInt(n, 10)
		must(message(&in.message))
	}
	file := in.message.Message.Attachments
	b.Run("with a file", func(b *testing.B) { cpu(b, m) })
	in.message.Message.Attachments = nil
	defer func() { in.message.Message.Attachments = file }()
	b.Run("sender", func(b *testing.B) { cpu(b, s) })
	b.Run("recipient", func(b *testing.B) { cpu(b, r) })
	b.Run("message", func(b *testing.B) { cpu(b, m) })
	b.Run("whole", func(b *testing.B) { cpu(b, func() { s(); r(); m() }) })
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
		cpu(b, func() {
			for i, q := range queries {
				if r, err := q.Eval(ctx, rego.EvalInput(maps[i])); err != nil || len(r) != 1 {
					b.Fatal(r, err)
				}
			}
		})
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
	cpu(b, func() {
		if _, err := e.Sender(context.Background(), &in.sender); err != nil {
			b.Fatal(err)
		}
	})
}
