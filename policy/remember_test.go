package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"behalf/policies"
)

// vary changes some fields of v.
func vary(r *rand.Rand, v reflect.Value, words []string) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case !v.Type().Field(i).IsExported():
		case f.Kind() == reflect.Struct:
			vary(r, f, words)
		case v.Type().Field(i).Name == "Tenant" || r.IntN(6) > 0: // another tenant is remembered apart
		case f.Kind() == reflect.Slice && r.IntN(2) == 0:
			f.SetZero()
		default:
			random(r, f, words)
		}
	}
}

// sameAgain asks the same and the almost same again and again: what is remembered
// must be what OPA's own evaluator says. It counts what was remembered.
func sameAgain(t *testing.T, name string, s *set, seed uint64) (known int) {
	t.Helper()
	list := words(s)
	for i, p := range s.stages[:stageMessage+1] {
		if p == nil {
			continue
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		in := stages()[i].input()
		random(r, reflect.ValueOf(in).Elem(), list)
		if tenantIn(in) == nil {
			continue
		}
		var kept answers
		for range 12 {
			want, wantErr := p.evaluate(context.Background(), s, time.Minute, in.term(allFields), nil)
			got, ok := kept.find(tenantIn(in), in.(seer))
			if ok {
				known++
				if wantErr != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s, seed %d, %s:\nremembered %+v\nOPA: %+v, %v\ninput %v", name, seed, stages()[i].name, got, want, wantErr, in.term(allFields))
				}
			} else if _, err := p.decide(context.Background(), s, time.Minute, in, &kept); (err == nil) != (wantErr == nil) {
				t.Errorf("%s, seed %d: %v; OPA: %v", name, seed, err, wantErr)
			}
			next := stages()[i].input()
			copyInput(next, in)
			vary(r, reflect.ValueOf(next).Elem(), list)
			in = next
		}
	}
	return known
}

// copyInput copies what is exported.
func copyInput(to, from input) {
	switch to := to.(type) {
	case *SenderInput:
		*to = *from.(*SenderInput)
	case *RecipientInput:
		*to = *from.(*RecipientInput)
	case *MessageInput:
		*to = *from.(*MessageInput)
	}
}

// TestRemembered shows that a decision that is remembered is the one that would be
// made, for the defaults, each recipe, and rules that are easily got wrong.
func TestRemembered(t *testing.T) {
	known := map[string]int{}
	for name, s := range sameSets(t) {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				known[name] += sameAgain(t, name, s, seed)
			}
		})
	}
	if known["defaults"] < 100 || known["with input"]+known["whole input"]+known["keys"] > 0 {
		t.Errorf("remembered: %v", known)
	}
}

// FuzzRemembered is TestRemembered with the fuzzer's numbers.
func FuzzRemembered(f *testing.F) {
	sets := sameSets(f)
	names := sortedKeys(sets)
	f.Add(uint64(1), uint8(1))
	f.Fuzz(func(t *testing.T, seed uint64, pick uint8) {
		name := names[int(pick)%len(names)]
		sameAgain(t, name, sets[name], seed)
	})
}

// everyField are rules of which each reads one field.
const everyField = `package behalf.submission.message

tag contains {"rule": "t", "value": sprintf("%d", [count(all)])}

all := [
	input.time, input.session, input.tenant, input.credential, input.stream, input.usage["1h"].messages, input.usage.credential["24h"].bounces,
	input.envelope.size, input.envelope.utf8, input.identity.verified, input.identity.methods, input.message.subject, input.message.headers,
	input.message.attachments, input.candidates, input.authentication.spf, input.bulk, input.unusual.score, input.unusual.reasons,
]
`

// TestForgets shows what makes a question another one.
func TestForgets(t *testing.T) {
	src, err := readSource(fstest.MapFS{"a.rego": {Data: []byte(everyField)}})
	if err != nil {
		t.Fatal(err)
	}
	s, problems := compile(src, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	session, tenant := &Session{Addr: "192.0.2.1"}, &Tenant{ID: 1}
	base := func() *MessageInput {
		return &MessageInput{SenderInput: SenderInput{Time: 1, Session: session, Tenant: tenant, Credential: &Credential{Username: "a"}, Usage: &Usage{}}}
	}
	var kept answers
	if _, err := s.stages[stageMessage].decide(t.Context(), s, time.Minute, base(), &kept); err != nil {
		t.Fatal(err)
	}
	if _, ok := kept.find(tenant, base()); !ok {
		t.Fatal("the same question is not known")
	}
	same := base()
	same.Message.MessageID, same.Envelope.From, same.Usage.Day.Messages = "x", "x", 7 // what no rule reads
	if _, ok := kept.find(tenant, same); !ok {
		t.Error("what is not read matters")
	}
	for name, change := range map[string]func(in *MessageInput){
		"time":        func(in *MessageInput) { in.Time++ },
		"session":     func(in *MessageInput) { in.Session = &Session{Addr: "192.0.2.1"} },
		"credential":  func(in *MessageInput) { in.Credential.Username = "b" },
		"scope":       func(in *MessageInput) { in.Credential.Scope = "platform" },
		"stream":      func(in *MessageInput) { in.Stream = "x" },
		"usage":       func(in *MessageInput) { in.Usage.Hour.Messages++ },
		"their usage": func(in *MessageInput) { in.Usage.Credential.Day.Bounces++ },
		"size":        func(in *MessageInput) { in.Envelope.Size++ },
		"flag":        func(in *MessageInput) { in.Envelope.UTF8 = true },
		"identity":    func(in *MessageInput) { in.Identity.Verified = true },
		"methods":     func(in *MessageInput) { in.Identity.Methods = append(in.Identity.Methods, "name") },
		"subject":     func(in *MessageInput) { in.Message.Subject = "x" },
		"headers":     func(in *MessageInput) { in.Message.Headers = [][2]string{{"A", "b"}} },
		"attachments": func(in *MessageInput) { in.Message.Attachments = []Attachment{{}} },
		"candidates":  func(in *MessageInput) { in.Candidates = []Candidate{{}} },
		"spf":         func(in *MessageInput) { in.Authentication.SPF = true },
		"bulk":        func(in *MessageInput) { in.Bulk = []Bulk{{}} },
		"score":       func(in *MessageInput) { in.Unusual.Score++ },
		"reasons":     func(in *MessageInput) { in.Unusual.Reasons = []Points{{}} },
	} {
		in := base()
		change(in)
		if d, ok := kept.find(tenant, in); ok {
			t.Errorf("%s does not matter: %+v", name, d)
		}
	}
	if _, ok := kept.find(&Tenant{ID: 1}, base()); ok {
		t.Error("another tenant got the answer")
	}
}

// TestRememberedIsBounded shows the bounds: of a tenant, of a stage, and what is
// kept where no question comes twice.
func TestRememberedIsBounded(t *testing.T) {
	src, err := readSource(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := compile(src, nil)
	ask := func(kept *answers, tenant *Tenant, stream string) bool {
		in := &RecipientInput{SenderInput: SenderInput{Time: 1, Tenant: tenant, Credential: &Credential{}, Stream: stream}}
		if _, ok := kept.find(tenant, in); ok {
			return true
		}
		if _, err := s.stages[stageRecipient].decide(t.Context(), s, time.Minute, in, kept); err != nil {
			t.Fatal(err)
		}
		return false
	}
	var kept answers
	one := &Tenant{ID: 1}
	for i := range 2 * maxOfTenant {
		ask(&kept, one, fmt.Sprint(i))
	}
	if n := len(kept.recent[one]); n != maxOfTenant || kept.count != n || !ask(&kept, one, fmt.Sprint(2*maxOfTenant-1)) || ask(&kept, one, "0") {
		t.Errorf("%d answers of a tenant are kept, %d counted", n, kept.count)
	}
	kept = answers{}
	tenants := make([]*Tenant, 5*maxOfStage)
	for i := range tenants {
		tenants[i] = &Tenant{ID: 1}
		ask(&kept, one, "x") // stays, as it is asked for
		ask(&kept, tenants[i], "x")
		if n := len(kept.recent) + len(kept.older); n > 2*maxOfStage+2 {
			t.Fatalf("%d answers are kept", n)
		}
	}
	if !ask(&kept, one, "x") {
		t.Error("what is asked for all the time was forgotten")
	}
	kept = answers{}
	made := 0
	for i := range 10_000 {
		before := kept.recent[one]
		if ask(&kept, one, fmt.Sprint("stream ", i)); len(before) == 0 || len(kept.recent[one]) > 0 && before[len(before)-1] != kept.recent[one][len(kept.recent[one])-1] {
			made++
		}
	}
	if most := trust + 10_000/doubt + 1; made > most {
		t.Errorf("%d answers were kept for nobody; at most %d", made, most)
	}
}

// TestRememberedLive shows that the engine counts what it remembers, that one who
// appends to a decision changes nobody else's, and that a new set is asked anew.
func TestRememberedLive(t *testing.T) {
	dir := func(tag string) fstest.MapFS {
		return fstest.MapFS{"a.rego": {Data: []byte(sender + `tag contains {"rule": "t", "value": "` + tag + `"}` + "\n" + `tag contains {"rule": "u", "value": "z"}`)}}
	}
	registry := prometheus.NewRegistry()
	e, err := New(t.Context(), Options{Defaults: dir("a"), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	tenant := &Tenant{ID: 1}
	ask := func(p Pinned) Decision {
		d, err := p.Sender(t.Context(), &SenderInput{Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				d := ask(e.Pin())
				d.Tags, d.Rules = append(d.Tags, "mine"), append(d.Rules, "mine")
				if again := ask(e.Pin()); len(again.Tags) != 2 || len(again.Rules) != 2 {
					t.Error(again)
				}
			}
		})
	}
	wg.Wait()
	if len(e.set.Load().answers[stageSender].recent) != 1 {
		t.Error("nothing is remembered")
	}
	families, _ := registry.Gather()
	counted := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			counted[f.GetName()] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if counted["behalf_policy_decisions_total"] != 800 || counted["behalf_policy_duration_seconds"] != 800 {
		t.Error(counted)
	}
	old := e.Pin()
	src, _ := readSource(dir("b"))
	if err := e.offer(src); err != nil {
		t.Fatal(err)
	}
	if d := ask(e.Pin()); d.Tags[0] != "b" {
		t.Error("the new set says ", d.Tags)
	}
	if d := ask(old); d.Tags[0] != "a" {
		t.Error("the pinned set says ", d.Tags)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Sender(ctx, &SenderInput{Tenant: tenant}); err == nil {
		t.Error("a client that went away was answered")
	}
	tenant = &Tenant{ID: 2}
	if ask(e.Active()); len(e.set.Load().answers[stageSender].recent) != 1 {
		t.Error("what a replay asks is remembered")
	}
}

// leaves are the paths of all fields of a schema that have none of their own.
func leaves(schema map[string]any, path string) (list []string) {
	properties, _ := schema["properties"].(map[string]any)
	if len(properties) == 0 {
		return []string{path}
	}
	for _, name := range sortedKeys(properties) {
		list = append(list, leaves(properties[name].(map[string]any), path+fmt.Sprintf("[%q]", name))...)
	}
	return list
}

// TestEveryFieldIsSeen reads each field of the inputs alone: a question in which it
// is another one is never taken for the same.
func TestEveryFieldIsSeen(t *testing.T) {
	for _, i := range []int{stageRecipient, stageMessage} {
		all := leaves(typeSchema(i), "input")
		if len(all) < 40 {
			t.Errorf("only %d fields of %s", len(all), stages()[i].name)
		}
		for _, path := range all {
			src, err := readSource(fstest.MapFS{"a.rego": {Data: []byte("package " + stages()[i].name + "\n" +
				`tag contains {"rule": "t", "value": sprintf("v%v", [object.get({"x": x | x := ` + path + `}, "x", "none")])}`)}})
			if err != nil {
				t.Fatal(err)
			}
			s, problems := compile(src, nil)
			if len(problems) > 0 {
				t.Fatal(path, ": ", problems)
			}
			for seed := range uint64(4) {
				sameAgain(t, path, s, seed)
			}
		}
	}
}
