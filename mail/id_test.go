package mail

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestIDHoldsWhereAndWhen(t *testing.T) {
	for _, c := range []struct {
		partition uint16
		tenant    TenantID
		at        time.Time
	}{{0, 0, time.UnixMilli(0)}, {1, 7, time.UnixMilli(1793869200123)}, {65535, 1<<32 - 1, time.UnixMilli(1<<48 - 1)}} {
		id := NewID(c.partition, c.tenant, c.at)
		if id.Partition() != c.partition || id.Tenant() != c.tenant || !id.Time().Equal(c.at) || id.IsZero() && c.tenant != 0 {
			t.Errorf("%+v came back as %d %d %v", c, id.Partition(), id.Tenant(), id.Time())
		}
		s := id.String()
		if len(s) != IDLen || s != strings.ToLower(s) {
			t.Errorf("text form %q", s)
		}
		for _, in := range []string{s, strings.ToUpper(s)} {
			if got, err := ParseID(in); err != nil || got != id {
				t.Errorf("%q: %v, %v", in, got, err)
			}
		}
	}
	if !(ID{}).IsZero() {
		t.Error("the zero id is not zero")
	}
}

func TestIDsOfATenantSortByTime(t *testing.T) {
	last := ""
	for ms := int64(1793869200000); ms < 1793869200000+70000; ms += 997 {
		s := NewID(1, 42, time.UnixMilli(ms)).String()
		if s <= last {
			t.Fatalf("%s after %s", s, last)
		}
		last = s
	}
}

func TestIDsDiffer(t *testing.T) {
	seen := map[ID]bool{}
	for range 1000 {
		id := NewID(1, 2, time.UnixMilli(3))
		if seen[id] {
			t.Fatal("the same id twice")
		}
		seen[id] = true
	}
}

func TestParseIDRefuses(t *testing.T) {
	good := NewID(1, 2, time.UnixMilli(3)).String()
	for _, s := range []string{"", good[1:], good + "0", good[:25] + "1", strings.Repeat("w", 26), good[:10] + "-" + good[11:], good[:24] + "ü", " " + good[1:]} {
		if id, err := ParseID(s); err == nil && s != good {
			t.Errorf("%q was taken as %v", s, id)
		}
	}
}

func TestIDJSON(t *testing.T) {
	id := NewID(1, 2, time.UnixMilli(3))
	b, err := json.Marshal(map[string]ID{"id": id})
	if err != nil || string(b) != `{"id":"`+id.String()+`"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var got map[string]ID
	if err := json.Unmarshal(b, &got); err != nil || got["id"] != id {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(NewID(1, 2, time.UnixMilli(3)).String())
	f.Add(strings.Repeat("v", 26))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && id.String() != strings.ToLower(s) {
			t.Fatalf("%q reads as %v", s, id)
		}
	})
}

// What is appended is what the text form is.
func TestIDAppend(t *testing.T) {
	id := NewID(7, 42, time.Now())
	if got, want := string(id.Append([]byte("id "))), "id "+id.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
