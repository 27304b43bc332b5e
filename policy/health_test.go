package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHealthOfAnswers: what is told without a key names stage, place and kind of a
// failure, and quotes no message.
func TestHealthOfAnswers(t *testing.T) {
	for rule, want := range map[string]string{
		`if to_number(input.envelope.from) > 5`:                                                          "eval_builtin_error in p.rego:2",
		`if count(numbers.range(1, 50000000)) > 5`:                                                       "do too much at once",
		`if count([x | some x in numbers.range(1, 9999); some y in numbers.range(1, 9999); x == y]) > 5`: "it builds more than 64 MiB",
	} {
		e := open(t, folder(sender+`deny contains {"rule": "r", "reason": "x"} `+rule), Options{Deadline: 1e12})
		_, err := e.Sender(t.Context(), &SenderInput{Envelope: Envelope{From: "secret@b.example"}})
		reasons, warnings := e.Status().Health()
		if err == nil || len(reasons) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], PackageSender+" failed 1 of 1 times in the last minute: ") ||
			!strings.Contains(warnings[0], want) || strings.Contains(warnings[0], "secret") {
			t.Errorf("%s: %v, %q, %q", rule, err, reasons, warnings)
		}
	}
	e := open(t, folder(sender+`deny contains object.union({"rule": input.envelope.from}, {"reason": 7})`), Options{})
	for range fewest {
		_, _ = e.Sender(t.Context(), &SenderInput{Envelope: Envelope{From: "secret@b.example"}})
	}
	reasons, _ := e.Status().Health()
	if len(reasons) != 1 || !strings.Contains(reasons[0], "not of the form") || strings.Contains(reasons[0], "secret") {
		t.Errorf("%q", reasons)
	}
}

// TestHealthOfSets: of a set that is not in force the files and lines are told,
// and neither rules nor the folder that they are in.
func TestHealthOfSets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secret")
	e := open(t, denying("one"), Options{Path: dir})
	healthy := func(err error) string {
		t.Helper()
		e.note(err)
		reasons, warnings := e.Status().Health()
		text := fmt.Sprint(reasons, warnings)
		if strings.Contains(text, "secret") {
			t.Errorf("%q quotes %v", text, err)
		}
		return text
	}
	offered := func(files fstest.MapFS) error {
		src, err := readSource(files)
		if err == nil {
			err = e.offer(src)
		}
		if err == nil {
			t.Fatal("it was taken")
		}
		return err
	}
	_, missing := os.Stat(filepath.Join(dir, "gone.rego"))
	many := fstest.MapFS{}
	for i := range 9 {
		many[fmt.Sprintf("m%d.rego", i)] = &fstest.MapFile{Data: []byte(sender + "deny contains {\n")}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{offered(folder(sender + "secret := 1\ndeny contains {\"rule\": \"r\", \"reason\": input.secret}")), "refused, the last good one is in force: 1 problem in p.rego:3"},
		{offered(folder(sender + "secret {\n")), " in p.rego:"},
		{offered(many), "m4.rego:3 and 4 other places"},
		{offered(fstest.MapFS{"a.rego": {Data: []byte("package x")}, "data.yaml": {Data: []byte("secret: {\n")}}), "1 problem in data.yaml"},
		{offered(fstest.MapFS{}), "no .rego file"},
		{offered(fstest.MapFS{"big.rego": {Data: make([]byte, maxSource+1)}}), "big.rego: the policy set is too big"},
		{missing, "gone.rego does not exist"},
		{errGone, "the policy folder is gone"},
		{fmt.Errorf("bundle b: %w: %w", errRefused, errors.New("secret")), "a bundle was refused"},
		{fmt.Errorf("bundle b: %w: %w", errRefused, offered(folder(sender+"secret {\n"))), " in p.rego:"},
		{errors.New("secret"), "could not be loaded"},
		{nil, "[] []"},
	} {
		if got := healthy(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%q does not tell %q", got, c.want)
		}
	}
}
