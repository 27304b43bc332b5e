package header

import (
	"testing"
	"time"
)

// A date is written as its layout says, in whatever zone and year.
func TestAppendDateIsItsLayout(t *testing.T) {
	zones := []*time.Location{time.UTC, time.FixedZone("", 19800), time.FixedZone("", -12600), time.FixedZone("", -1800), time.FixedZone("", 45*60+30)}
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(1<<31, 999), time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC),
		time.Date(999, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(12345, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		for _, zone := range zones {
			at := at.In(zone)
			if got, want := string(AppendDate([]byte("Date: "), at)), "Date: "+at.Format(dateLayout); got != want {
				t.Errorf("%v: %q, want %q", at, got, want)
			}
		}
	}
	for month := range 12 {
		at := time.Date(2026, time.Month(month+1), month+1, month, month, month, 0, time.UTC)
		if got, want := string(AppendDate(nil, at)), at.Format(dateLayout); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

var mediaTypes = []string{
	"", "text/plain", "Text/PLAIN", "text", "text/", "/plain", "text/plain;", "text/plain ; charset=utf-8", "text/plain; charset=utf-8", "text/plain;charset=\"utf-8\"",
	"text/plain; charset=\"utf\\-8\"", "text/plain; charset=\"\"", "text/plain; charset=", "text/plain; charset=utf-8; name=a.txt", "text/plain; name=\"a.txt\"",
	"text/plain; charset=utf-8;\r\n\tname*=utf-8''a.txt", "text/plain;\r\n CHARSET=us-ascii", "text/plain; charset=utf 8", "text/plain; charset=utf-8 ", "application/x-y+z.v_1",
	"text/plain/x", "text/plain; name=", "a b/c; charset=x", "text/plain; charset=x(comment)", "text/plain; charset=utf-8;",
}

// What a media type is, and whether it has a name, does not depend on which of
// the two is asked.
func TestMediaTypeIsContentType(t *testing.T) {
	for _, value := range mediaTypes {
		sameMediaType(t, value)
	}
}

func FuzzMediaType(f *testing.F) {
	for _, value := range mediaTypes {
		f.Add(value)
	}
	f.Fuzz(sameMediaType)
}

func sameMediaType(t *testing.T, value string) {
	kind, named := MediaType(value)
	want, params := ContentType(value)
	if kind != want || named != (params["name"] != "") {
		t.Errorf("%q is %q, named: %t; want %q, %q", value, kind, named, want, params)
	}
}

// Room that served a header before leaves no trace in the next.
func TestParseIntoRoom(t *testing.T) {
	first, err := ParseInto([]byte("A: 1\r\nB: 2\r\nC: 3\r\n\r\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ParseInto([]byte("D: 4\r\n folded\r\n\r\n"), first.All()[:0])
	if err != nil {
		t.Fatal(err)
	}
	if n := len(second.All()); n != 1 || second.Get("D") != "4 folded" || second.Has("B") {
		t.Errorf("%d fields: %v", n, second.All())
	}
}
