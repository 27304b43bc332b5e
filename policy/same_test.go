package policy

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"behalf/policies"
)

// nasty are rules that use what is easily got wrong, each in its own set.
var nasty = map[string]string{
	"else":         `tag contains {"rule": "t", "value": v}` + "\nv := \"a\" if input.envelope.size > 5 else := \"b\" if input.envelope.utf8 else := \"c\"",
	"default":      `tag contains {"rule": "t", "value": v}` + "\ndefault v := \"none\"\nv := input.tenant.labels.plan",
	"function":     `tag contains {"rule": "t", "value": f(input.stream)}` + "\nf(x) := \"bulk\" if x == \"broadcast\"\nf(x) := \"other\" if x != \"broadcast\"\nf(\"transactional\") := \"other\"",
	"patterns":     `tag contains {"rule": "t", "value": f([input.stream, input.envelope.size])}` + "\nf([\"broadcast\", n]) := sprintf(\"n%d\", [n])\nf([s, 0]) := s if s != \"\"\ndefault f(_) := \"none\"",
	"every":        `tag contains {"rule": "t", "value": "all"} if { every m in input.tenant.methods { m in {"domain", "name"} } }`,
	"not":          `tag contains {"rule": "t", "value": "x"} if { not input.envelope.utf8; not input.tenant.labels.team == "x" }`,
	"with input":   `tag contains {"rule": "t", "value": v} if { v := h with input.stream as "changed" with input.envelope.size as 77 }` + "\nh := sprintf(\"%s-%d-%s\", [input.stream, input.envelope.size, input.envelope.from])",
	"with data":    `tag contains {"rule": "t", "value": v} if { v := h with data.words as ["x", input.stream] }` + "\nh := concat(\"-\", data.words)",
	"with mock":    `tag contains {"rule": "t", "value": v} if { v := g("A") with lower as upper_ }` + "\nupper_(x) := upper(x)\ng(x) := lower(x)",
	"partial obj":  `tag contains {"rule": "t", "value": sprintf("%v", [o])}` + "\no[k] := v if some k, v in input.tenant.labels\no[\"size\"] := input.envelope.size",
	"nested ref":   `tag contains {"rule": "t", "value": sprintf("%v", [o])}` + "\no[m].x contains k if { some m in input.tenant.methods; some k, _ in input.tenant.labels }\no.fixed.y contains 1",
	"conflict":     `tag contains {"rule": "t", "value": v}` + "\nv := \"utf8\" if input.envelope.utf8\nv := \"8bit\" if input.envelope.eight_bit",
	"conflict obj": `tag contains {"rule": "t", "value": "x"} if o.a` + "\no := {k: v | some v in input.tenant.methods; k := \"a\"}",
	"late fault":   `tag contains {"rule": "t", "value": "x"} if ok` + "\nok if input.envelope.utf8\nok if to_number(input.stream) == 1",
	"index fault":  `tag contains {"rule": "t", "value": "x"} if p` + "\np if { to_number(input.stream) > 0; input.tenant.name == \"acme\" }\np if input.tenant.name == \"beta\"",
	"fault":        `tag contains {"rule": "t", "value": "x"} if { time.parse_rfc3339_ns(input.stream) > 0 }`,
	"undefined":    `tag contains {"rule": "t", "value": input.tenant.suspended.reason}`,
	"comprehend":   `tag contains {"rule": "t", "value": sprintf("%v %v %v", [[x | some x in input.tenant.methods], {x | some x in input.tenant.methods}, {k: upper(v) | some k, v in input.tenant.labels}])}`,
	"nested comp":  `tag contains {"rule": "t", "value": sprintf("%v", [[[y | some y in input.tenant.methods; y > x] | some x in input.tenant.methods]])}`,
	"sets":         `tag contains {"rule": "t", "value": sprintf("%v", [s | {"z"}])} if { s := {m | some m in input.tenant.methods}; count(s & {"domain", "name"}) > 0; count(s - {"domain"}) >= 0 }`,
	"walk":         `tag contains {"rule": "t", "value": sprintf("%v", [{concat("/", [sprintf("%v", [p]) | some p in path]) | walk(input.tenant, [path, v]); v == "acme"}])}`,
	"whole input":  `tag contains {"rule": "t", "value": sprintf("%v", [input])}`,
	"keys":         `tag contains {"rule": "t", "value": k} if { some k, _ in input; k != "usage" }`,
	"equal parts":  `tag contains {"rule": "t", "value": "x"} if input.usage["1h"] == input.usage["24h"]`,
	"part passed":  `tag contains {"rule": "t", "value": f(input.envelope)}` + "\nf(e) := e.from if object.get(e, \"size\", 0) >= 0",
	"unify":        `tag contains {"rule": "t", "value": v} if { {"reason": v, "until": _} = input.tenant.suspended }`,
	"dynamic":      `tag contains {"rule": "t", "value": sprintf("%v", [data.help[input.stream]])}`,
	"interpolate":  `tag contains {"rule": "t", "value": $"{input.stream} {input.tenant.suspended.reason} {1 + 2}"}`,
	"numbers":      `tag contains {"rule": "t", "value": sprintf("%v %v", [input.envelope.size / 7, input.time % 1000])} if { input.envelope.size * 2 >= 1.0; 1 == 1.0 }`,
	"some in":      `tag contains {"rule": "t", "value": sprintf("%d-%s", [i, m])} if some i, m in input.tenant.methods`,
	"results":      `limit contains {"rule": sprintf("l%d", [i]), "key": ["tenant", i], "count": "messages", "rate": i + 1, "per": "1h"} if some i, _ in input.tenant.methods`,
	"bad result":   `deny contains {"rule": "d", "reason": input.tenant.labels.team}`,
	"priority":     `route contains {"rule": m, "use": m, "priority": 100 - i} if some i, m in ["mx", "platform"]`,
}

const helpers = "package help\n\nbroadcast := \"b\"\n\ntransactional contains x if some x in input.tenant.methods\n"

// sameSets are the sets on which both evaluators are compared.
func sameSets(t testing.TB) map[string]*set {
	t.Helper()
	all := map[string]*set{}
	load := func(name string, dir fs.FS) {
		src, err := readSource(dir)
		if err != nil {
			t.Fatal(name, ": ", err)
		}
		s, problems := compile(src, nil)
		if len(problems) > 0 {
			t.Fatal(name, ": ", problems)
		}
		for _, p := range s.stages {
			if p != nil && p.why != nil {
				t.Error(name, " is not planned: ", p.why)
			}
		}
		all[name] = s
	}
	load("defaults", policies.FS)
	recipes, err := filepath.Glob("../docs/recipes/*")
	if err != nil || len(recipes) == 0 {
		t.Fatal("no recipes: ", err)
	}
	for _, dir := range recipes {
		load(filepath.Base(dir), os.DirFS(dir))
	}
	for name, rules := range nasty {
		pkg := sender
		if strings.HasPrefix(rules, "route ") {
			pkg = "package " + PackageMessage + "\n"
		}
		load(name, fstest.MapFS{"p.rego": {Data: []byte(pkg + rules)}, "help.rego": {Data: []byte(helpers)},
			"data.json": {Data: []byte(`{"words": ["a", "b"]}`)}})
	}
	return all
}

// words are texts that rules compare with; random inputs draw on them.
func words(s *set) []string {
	list := []string{"", "acme", "beta", "broadcast", "transactional", "1", "2026-11-05T12:00:00Z", "a@b.example", "b.example", "domain", "name", "é"}
	for _, m := range s.modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if v, ok := t.Value.(ast.String); ok && len(v) < 40 {
				list = append(list, string(v))
			}
			return false
		})
	}
	return list
}

// random fills v with words, small and big numbers, short lists.
func random(r *rand.Rand, v reflect.Value, words []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			random(r, v.Elem(), words)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				random(r, v.Field(i), words)
			}
		}
	case reflect.Slice:
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			random(r, v.Index(i), words)
		}
	case reflect.Array:
		for i := range v.Len() {
			random(r, v.Index(i), words)
		}
	case reflect.Map:
		m := map[string]string{}
		for range r.IntN(4) {
			m[[]string{"plan", "team", "x", words[r.IntN(len(words))]}[r.IntN(4)]] = words[r.IntN(len(words))]
		}
		v.Set(reflect.ValueOf(m))
	case reflect.String:
		v.SetString(words[r.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(float64(r.IntN(40)) / 2)
	case reflect.Uint32:
		v.SetUint(uint64(r.IntN(1000)))
	default:
		v.SetInt([]int64{0, 1, int64(r.IntN(100)), int64(r.IntN(5000)), 1_790_000_000_123_456_789}[r.IntN(5)])
	}
}

// sameDecision asks both evaluators; they agree, or both refuse.
func sameDecision(t *testing.T, name string, s *set, seed uint64) (decided bool) {
	t.Helper()
	list := words(s)
	for i, p := range s.stages {
		if p == nil {
			continue
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		in := stages()[i].input()
		random(r, reflect.ValueOf(in).Elem(), list)
		got, err := p.decide(context.Background(), s, time.Minute, in, nil)
		want, wantErr := p.evaluate(context.Background(), s, time.Minute, in.term(allFields), nil)
		switch {
		case (err == nil) != (wantErr == nil):
			t.Errorf("%s, seed %d, %s: %v; OPA: %v", name, seed, stages()[i].name, err, wantErr)
		case err == nil && !reflect.DeepEqual(got, want):
			t.Errorf("%s, seed %d, %s:\n%+v\nOPA:\n%+v\ninput %v", name, seed, stages()[i].name, got, want, in.term(allFields))
		}
		decided = decided || err == nil && len(got.Rules) > 0
	}
	return decided
}

// TestSame shows that a plan decides as OPA's own evaluator does, whatever the
// input: for the defaults, each recipe, and rules that are easily got wrong.
func TestSame(t *testing.T) {
	for name, s := range sameSets(t) {
		t.Run(name, func(t *testing.T) {
			decided := 0
			for seed := range uint64(60) {
				if sameDecision(t, name, s, seed) {
					decided++
				}
			}
			if _, mine := nasty[name]; mine && decided == 0 && name != "fault" {
				t.Error("no input made a rule fire: nothing was compared")
			}
		})
	}
}

// FuzzSame is TestSame with the fuzzer's numbers.
func FuzzSame(f *testing.F) {
	sets := sameSets(f)
	names := sortedKeys(sets)
	for i := range uint64(3) {
		f.Add(i, uint8(i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, pick uint8) {
		name := names[int(pick)%len(names)]
		sameDecision(t, name, sets[name], seed)
	})
}

// TestPlanErrors shows that a policy that cannot decide says so with its name,
// its file and line.
func TestPlanErrors(t *testing.T) {
	for rules, want := range map[string]string{
		nasty["fault"]: "p.rego:",
		`tag contains {"rule": "t", "value": v}` + "\nv := \"a\" if input.envelope.size > 1\nv := \"b\" if input.envelope.size > 2": "p.rego:",
	} {
		_, err := ask(t, rules)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), PackageMessage) {
			t.Errorf("%s: %v", rules, err)
		}
	}
}
