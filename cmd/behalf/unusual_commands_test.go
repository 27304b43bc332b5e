package main

import (
	"bytes"
	"testing"
	"time"

	"behalf/limit/habit"
	"behalf/mail"
)

// Episodes are shown line by line, none of which grows with how much there is.
func TestWriteEpisodes(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	at := time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	err := writeEpisodes(&out, []habit.Episode{
		{Credential: "acme/app", Since: at, Last: at.Add(time.Hour), Messages: 120, Recipients: 49761, Score: 90,
			Reasons:  []habit.Reason{{Name: "new_recipients", Points: 60, Detail: "49761 new recipients in 24 hours, usual are 12"}, {Name: "hour", Points: 30, Detail: "it never sends at 03 UTC"}},
			Examples: make([]mail.ID, 2)},
		{Credential: "acme/other\x1b[31m", Since: at, Last: at, Messages: 1, Recipients: 1, Score: 60},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "unusual.txt", out.String())
	out.Reset()
	if err := writeEpisodes(&out, nil); err != nil || out.String() != "nothing is held as unusual\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
