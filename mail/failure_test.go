package mail

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestParseEnhanced(t *testing.T) {
	for in, want := range map[string]Enhanced{"5.7.1": {5, 7, 1}, "2.0.0": {2, 0, 0}, "4.999.999": {4, 999, 999}} {
		if got, ok := ParseEnhanced(in); !ok || got != want || got.String() != in {
			t.Errorf("%q: %v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "5", "5.7", "5.7.1.0", "3.0.0", "5.1000.1", "5.-1.1", "5.+1.1", "5. 1.1", "5.7.x", "55.1.1", "5..1", "5.0001.1"} {
		if got, ok := ParseEnhanced(in); ok || got != (Enhanced{}) {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
}

func TestFailureJSON(t *testing.T) {
	f := Fail(550, Enhanced{5, 1, 1}, OfRecipient, ReasonNoMailbox, "no such mailbox")
	b, err := json.Marshal(f)
	if err != nil || string(b) != `{"code":550,"enhanced":"5.1.1","text":"no such mailbox","scope":"recipient","reason":"no-mailbox"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var got Failure
	if err := json.Unmarshal(b, &got); err != nil || got != *f {
		t.Errorf("%+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"scope":"nobody"}`), &got); err == nil {
		t.Error("an unknown scope was taken")
	}
	if err := json.Unmarshal([]byte(`{"enhanced":"9.9.9"}`), &got); err == nil {
		t.Error("an unknown class was taken")
	}
	if b, _ := json.Marshal(Enhanced{}); string(b) != `""` {
		t.Errorf("no code: %s", b)
	}
}

func TestAsFailure(t *testing.T) {
	if AsFailure(nil) != nil {
		t.Error("nil became a failure")
	}
	f := Fail(552, Enhanced{5, 3, 4}, OfMessage, ReasonTooLarge, "too large")
	if got := AsFailure(fmt.Errorf("deliver: %w", f)); got != f {
		t.Errorf("%v", got)
	}
	// An error of unknown kind is ours and temporary, and its text stays inside.
	got := AsFailure(fmt.Errorf("open /secret/path: %w", io.ErrUnexpectedEOF))
	if got.Code != 451 || got.Scope != OfUs || got.Reason != ReasonInternal || !got.Temporary() || strings.Contains(got.Text, "secret") {
		t.Errorf("%+v", got)
	}
	if !errors.Is(got, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}

func TestFail(t *testing.T) {
	f := Fail(451, Enhanced{4, 4, 1}, OfDestination, ReasonUnreachable, "no answer: %w", io.EOF)
	if !errors.Is(f, io.EOF) || f.Text != "no answer: EOF" || f.Error() != "451 4.4.1 no answer: EOF" {
		t.Errorf("%v, cause %v", f, f.Err)
	}
	g := &Failure{Code: 451, Enhanced: Enhanced{4, 3, 0}, Text: "trouble", Err: io.EOF}
	if g.Error() != "451 4.3.0 trouble: EOF" {
		t.Error(g.Error())
	}
	for code, want := range map[int]bool{421: true, 450: true, 499: true, 500: false, 554: false} {
		if (&Failure{Code: code}).Temporary() != want {
			t.Errorf("%d: %v", code, !want)
		}
	}
}

func TestScopeText(t *testing.T) {
	for s := OfUs; s <= OfDestination; s++ {
		b, _ := s.MarshalText()
		var got Scope
		if err := got.UnmarshalText(b); err != nil || got != s {
			t.Errorf("%s: %v, %v", b, got, err)
		}
	}
	if s := Scope(9).String(); s != "scope 9" {
		t.Error(s)
	}
}

func FuzzParseEnhanced(f *testing.F) {
	f.Add("5.7.1")
	f.Add("4.+1.0")
	f.Fuzz(func(t *testing.T, s string) {
		e, ok := ParseEnhanced(s)
		if !ok {
			return
		}
		if again, ok := ParseEnhanced(e.String()); !ok || again != e {
			t.Fatalf("%q reads as %v, which reads as %v", s, e, again)
		}
	})
}
