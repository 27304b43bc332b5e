package policy

import (
	"maps"
	"reflect"
	"testing"
	"testing/fstest"
)

// versions are sets that follow one another. Each names the files that differ from
// the first; an empty one is not there.
var versions = map[string]map[string]string{
	"first":            {},
	"another sender":   {"sender.rego": "package behalf.submission.sender\ntag contains {\"rule\": \"s\", \"value\": \"other\"}\n"},
	"a broken sender":  {"sender.rego": "package behalf.submission.sender\ntag contains {\"rule\": \"s\", \"value\": input.streem}\n"},
	"no parse":         {"sender.rego": "package behalf.submission.sender\ntag contains {"},
	"another helper":   {"help.rego": "package help\nword := concat(\"+\", [data.own.word, \"b\"])\n"},
	"a helper unused":  {"alone.rego": "package alone\nx := data.own.word\n"},
	"a bad one unused": {"alone.rego": "package alone\nx := y\n"},
	"other data":       {"own/data.json": `{"word": "x"}`},
	"more data":        {"data.yaml": "own: {other: 2}\n"},
	"data missing":     {"own/data.json": `{"wort": "x"}`},
	"data conflicts":   {"help/data.json": `{"word": "x"}`},
	"data twice":       {"data.yaml": "own: {word: y}\n"},
	"another stage":    {"recipient.rego": "package behalf.submission.recipient\nimport data.behalf.submission.sender\ntag contains {\"rule\": \"r\", \"value\": \"r\"} if sender.x\n"},
	"without sender":   {"sender.rego": ""},
}

func version(t *testing.T, name string) *source {
	t.Helper()
	all := map[string]string{
		"sender.rego":    "package behalf.submission.sender\ntag contains {\"rule\": \"s\", \"value\": data.help.word}\n",
		"recipient.rego": "package behalf.submission.recipient\ntag contains {\"rule\": \"r\", \"value\": sprintf(\"of %s\", [object.get(input.tenant, \"name\", \"none\")])}\n",
		"message.rego":   "package behalf.submission.message\ntag contains {\"rule\": \"m\", \"value\": data.help.word}\nroute contains r if some r in {{\"rule\": \"x\", \"use\": \"mx\"}}\n",
		"help.rego":      "package help\nword := concat(\"-\", [data.own.word, \"b\"])\n",
		"own/data.json":  `{"word": "a"}`,
	}
	maps.Copy(all, versions[name])
	dir := fstest.MapFS{}
	for file, text := range all {
		if text != "" {
			dir[file] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	src, err := readSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestReuse shows that a set that takes over what did not change decides, and is
// refused, as one made from nothing.
func TestReuse(t *testing.T) {
	var loaded []*set
	for before := range versions {
		if s, problems := compile(version(t, before), nil); len(problems) == 0 {
			loaded = append(loaded, s)
		}
	}
	if len(loaded) < 6 || len(loaded) > len(versions)-6 {
		t.Fatalf("%d of %d sets are good", len(loaded), len(versions))
	}
	for _, before := range loaded {
		for name := range versions {
			got, problems := compile(version(t, name), before)
			want, wantProblems := compile(version(t, name), nil)
			if !reflect.DeepEqual(problems, wantProblems) {
				t.Errorf("%s: %v; from nothing: %v", name, problems, wantProblems)
			}
			if len(wantProblems) == 0 {
				asGood(t, name, got, want)
			}
		}
	}
}

func asGood(t *testing.T, name string, got, want *set) {
	t.Helper()
	if got.digest != want.digest || got.needs != want.needs || !reflect.DeepEqual(got.files, want.files) || got.documents.data.Compare(want.documents.data) != 0 {
		t.Errorf("%s: %+v; from nothing: %+v", name, got, want)
	}
	for i, p := range want.stages {
		if (p == nil) != (got.stages[i] == nil) {
			t.Errorf("%s: stage %d is there in one set only", name, i)
			continue
		}
		if p == nil {
			continue
		}
		in := stages()[i].input()
		d, err := got.stages[i].decide(t.Context(), got, explainWithin, in, nil)
		byOPA, errOPA := got.stages[i].evaluate(t.Context(), got, explainWithin, in.term(allFields), nil)
		expected, errExpected := p.decide(t.Context(), want, explainWithin, in, nil)
		if err != nil || errOPA != nil || errExpected != nil || !reflect.DeepEqual(d, expected) || !reflect.DeepEqual(byOPA, expected) {
			t.Errorf("%s: %+v, %v; OPA: %+v, %v; from nothing: %+v, %v", name, d, err, byOPA, errOPA, expected, errExpected)
		}
	}
}

// TestReuseShares shows that what did not change is not made again, and that the
// set before is left as it was.
func TestReuseShares(t *testing.T) {
	first, _ := compile(version(t, "first"), nil)
	for name, shared := range map[string][3]bool{
		"first":          {true, true, true},
		"other data":     {true, true, true},
		"another sender": {false, true, true},
		"another helper": {false, true, false},
		"without sender": {false, true, true},
	} {
		s, problems := compile(version(t, name), first)
		if len(problems) > 0 {
			t.Fatal(name, ": ", problems)
		}
		for i, want := range shared {
			if (s.stages[i] == first.stages[i]) != want {
				t.Errorf("%s: stage %d is shared: %v", name, i, !want)
			}
		}
		if data := s.store == first.store; data != (name != "other data") {
			t.Errorf("%s: data is shared: %v", name, data)
		}
	}
	again, _ := compile(version(t, "first"), nil)
	asGood(t, "afterwards", first, again)
	if more, problems := compile(version(t, "more data"), first); len(problems) > 0 || !reflect.DeepEqual(first.data, again.data) || reflect.DeepEqual(more.data, first.data) {
		t.Errorf("merging data: %v; before %v, after %v", problems, first.data, more)
	}
}
