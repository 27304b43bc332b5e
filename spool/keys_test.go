package spool

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"behalf/mail"
)

// The bytes of keys are what is on people's disks: a change here is a change
// of the format.
func TestKeys(t *testing.T) {
	id := mail.ID{0x00, 0x07, 0, 0, 0, 0x2a, 0x01, 0x90, 0xab, 0xcd, 0xef, 0x12, 0xde, 0xad, 0xbe, 0xef}
	p := part(7)
	for _, c := range []struct {
		name string
		key  []byte
		want string
	}{
		{"message", keyMessage(id), "0007 6d 0000002a 0190abcdef12 deadbeef"},
		{"recipients", keyRecipients(id, 3), "0007 72 0000002a 0190abcdef12 deadbeef 0003"},
		{"queue", keyQueue(p, Queue{"mx|a.b|t", 42}), "0007 64 6d787c612e627c74 00 0000002a"},
		{"due", keyDue(id, "mx|a.b|t", 0x0190abcdef13, 3), "0007 64 6d787c612e627c74 00 0000002a 0190abcdef13 0190abcdef12 deadbeef 0003"},
		{"timer", keyTimer(id, 1, 0x0190abcdef13), "0007 78 01 0190abcdef13 0000002a 0190abcdef12 deadbeef"},
		{"event", keyEvent(p, 258), "0007 66 0000000000000102"},
		{"next", keyNext(p), "0007 6e"},
		{"counts", keyCounts(p), "0007 68"},
		{"age", keyAge(p, 258), "0007 61 0000000000000102"},
		{"cursor", keyCursor(p, "dsn"), "0007 63 64736e"},
		{"mark", keyMark(p, "x0"), "0007 6c 7830"},
		{"idempotency", keyIdempotency(42, [32]byte{1, 31: 2}), "69 0000002a 01" + string(bytes.Repeat([]byte("00"), 30)) + "02"},
	} {
		want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(c.want), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.key, want) {
			t.Errorf("%s: key %x, want %x", c.name, c.key, want)
		}
	}
}

func TestKeysAreRead(t *testing.T) {
	at := time.UnixMilli(1790000000123).UTC()
	id := mail.NewID(5, 0xfffffffe, at)
	want := Due{Queue: Queue{"connection:office||broadcast", id.Tenant()}, At: at.Add(time.Hour), ID: id, Chunk: 156}
	got, err := parseDue(want.key())
	if err != nil || got != want {
		t.Errorf("due entry: got %+v, %v; want %+v", got, err, want)
	}
	timer := Timer{At: at, ID: id, What: TimerDelay}
	back, err := parseTimer(keyTimer(id, classLive, at.UnixMilli()), []byte{byte(TimerDelay)})
	if err != nil || back != timer {
		t.Errorf("timer: got %+v, %v; want %+v", back, err, timer)
	}
	for _, key := range [][]byte{keyMessage(id), keyRecipients(id, 9)} {
		if got, ok := idOf(key); !ok || got != id {
			t.Errorf("id of %x: got %s, want %s", key, got, id)
		}
	}
	if got := seqOf(keyEvent(5, 1<<40)); got != 1<<40 {
		t.Errorf("event number: got %d", got)
	}
}

func TestDueSortsByTime(t *testing.T) {
	at := time.UnixMilli(1790000000000)
	late := mail.NewID(0, 1, at)
	early := mail.NewID(0, 1, at.Add(time.Hour)) // submitted later, due earlier
	a := keyDue(early, "mx|a.b|t", 100, 7)
	b := keyDue(late, "mx|a.b|t", 101, 0)
	if bytes.Compare(a, b) >= 0 {
		t.Error("an entry that is due earlier sorts behind a later one")
	}
}

func FuzzParseDue(f *testing.F) {
	f.Add(keyDue(mail.NewID(1, 2, time.UnixMilli(3)), "mx|a|t", 4, 5))
	f.Add([]byte("\x00\x00d\x00"))
	f.Fuzz(func(t *testing.T, key []byte) {
		d, err := parseDue(key)
		if err == nil && key[2] == tableDue && !bytes.Equal(d.key(), key) {
			t.Errorf("%x reads as %+v, which is %x", key, d, d.key())
		}
	})
}
