package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"behalf/internal/kv"
)

// record is what Open found.
type record struct {
	file, seq uint64
	rows      []kv.Row
	older     bool
}

func (r record) String() string { return fmt.Sprintf("%d/%d %d rows", r.file, r.seq, len(r.rows)) }

func open(t testing.TB, dir string, freed int64, o Options) (*Journal, []record) {
	t.Helper()
	j, found, err := try(dir, freed, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, found
}

func try(dir string, freed int64, o Options) (*Journal, []record, error) {
	if o.Size == 0 {
		o.Size = 16 << 10
	}
	if o.Sync == nil {
		o.Sync = func(*os.File) error { return nil }
	}
	var found []record
	j, err := Open(dir, freed, o, func(file, seq uint64, rows []kv.Row, older bool) {
		found = append(found, record{file, seq, rows, older})
	})
	return j, found, err
}

// rowsOf are the rows of record n: each kind, and sizes that differ.
func rowsOf(n uint64) []kv.Row {
	return []kv.Row{
		{Key: fmt.Appendf(nil, "put %d", n), Value: bytes.Repeat([]byte{byte(n)}, int(n*37%500))},
		{Key: fmt.Appendf(nil, "gone %d", n), Deleted: true},
		{Key: fmt.Appendf(nil, "for a while %d", n), Value: []byte("v"), Expires: 1 << 40},
		{Key: []byte("empty")},
	}
}

func appendN(t testing.TB, j *Journal, n int) {
	t.Helper()
	for range n {
		if j.Full() {
			if err := j.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := j.Append(rowsOf(j.next), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// check wants the records from first to last, with their rows.
func check(t testing.TB, what string, found []record, first, last uint64) {
	t.Helper()
	if uint64(len(found)) != last-first+1 {
		t.Fatalf("%s: %d records, want %d to %d: %v", what, len(found), first, last, found)
	}
	for i, r := range found {
		n := first + uint64(i)
		if r.seq != n || !slices.EqualFunc(r.rows, rowsOf(n), func(a, b kv.Row) bool {
			return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.Deleted == b.Deleted && a.Expires == b.Expires
		}) {
			t.Fatalf("%s: record %d is %v", what, n, r)
		}
	}
}

func TestRecordsComeBack(t *testing.T) {
	dir := t.TempDir()
	j, found := open(t, dir, -1, Options{})
	if len(found) > 0 {
		t.Error("a new log is not empty")
	}
	freed := int64(0)
	oldest := uint64(1) // record
	for round := range 12 {
		appendN(t, j, 10)
		last := j.next - 1
		if round%3 == 2 && j.File() > uint64(freed)+1 { // as after a flush
			freed = int64(j.File()) - 1
			if err := j.Free(uint64(freed)); err != nil {
				t.Fatal(err)
			}
			oldest = j.head.first
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j, found = open(t, dir, freed, Options{})
		check(t, fmt.Sprint("round ", round), found, oldest, last)
		for _, r := range found {
			if r.older != (r.file < j.File()) {
				t.Errorf("%v: older is %t, the last file is %d", r, r.older, j.File())
			}
		}
	}
	if freed < 2 {
		t.Error("no file was used twice")
	}
	if logs, _ := filepath.Glob(filepath.Join(dir, "*"+suffix)); len(logs) > int(j.File())-int(freed)+1 {
		t.Errorf("files are kept: %q", logs)
	}
}

// A file that is used again holds old records behind the new ones; they are
// not taken for ours, wherever the new ones end.
func TestOldRecordsAreNoRecords(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir, -1, Options{Size: 8 << 10})
	freed := int64(0)
	for range 300 {
		was := j.File()
		appendN(t, j, 1)
		if j.File() != was {
			if freed = int64(was); j.Free(was) != nil {
				t.Fatal("free")
			}
		}
		first, last := j.head.first, j.next-1
		again, found := open(t, copyDir(t, dir), freed, Options{})
		check(t, "again", found, first, last)
		_ = again.Close()
	}
}

// What a crash leaves of the last record is anything: at each octet it may be
// cut off, be zero or noise from there on.
func TestTornEnd(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir, -1, Options{Size: 1 << 20})
	appendN(t, j, 3)
	var ends []int64
	for range 3 {
		ends = append(ends, j.end)
		appendN(t, j, 1)
	}
	ends = append(ends, j.end)
	whole, err := os.ReadFile(j.path(1))
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:j.end+1000]
	for i, begin := range ends[:3] {
		for at := begin; at < ends[i+1]; at++ {
			for _, how := range []string{"cut", "zero", "noise"} {
				b := tearFrom(whole, at, ends[i+1], how)
				to, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(to, filepath.Base(j.path(1))), b, 0o600); err != nil {
					t.Fatal(err)
				}
				what := fmt.Sprintf("record %d, %s at %d of %d", 4+i, how, at-begin, ends[i+1]-begin)
				torn, found := open(t, to, 0, Options{Size: 1 << 20})
				check(t, what, found, 1, uint64(3+i))
				if at%16 > 0 {
					_ = torn.Close()
					continue
				}
				appendN(t, torn, 2) // over what is left
				_ = torn.Close()
				torn, found = open(t, to, 0, Options{Size: 1 << 20})
				check(t, what+", gone on", found, 1, uint64(5+i))
				_ = torn.Close()
				_ = os.RemoveAll(to)
			}
		}
	}
}

// tearFrom gives the file as a crash may leave it that wrote the record up to
// end in part; nothing behind it was written.
func tearFrom(file []byte, at, end int64, how string) []byte {
	b := bytes.Clone(file)
	clear(b[end:])
	switch how {
	case "cut":
		return b[:at]
	case "zero":
		clear(b[at:])
	case "noise":
		for i := at; i < end; i++ {
			b[i] ^= byte(1 + rand.IntN(255))
		}
	}
	return b
}

// No crash damages a record that has another behind it.
func TestDamageIsRefused(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir, -1, Options{Size: 16 << 10})
	appendN(t, j, 60)
	if j.File() < 2 {
		t.Fatal("one file is not enough")
	}
	last := j.end
	var before int64 // the end of the record before the last
	b, _ := os.ReadFile(j.path(j.File()))
	for at := int64(firstRecord); at < last; {
		_, _, end, ok := j.head.record(b, at)
		if !ok {
			t.Fatal("it ends early")
		}
		before, at = at, end
	}
	refused := func(what string, damage func(dir string)) {
		t.Helper()
		to := copyDir(t, dir)
		damage(to)
		if j, found, err := try(to, 0, Options{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %d records, %v", what, len(found), err)
			if err == nil {
				_ = j.Close()
			}
		}
	}
	flip := func(file uint64, at int64) func(string) {
		return func(dir string) {
			name := filepath.Join(dir, filepath.Base(j.path(file)))
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[at] ^= 0x40
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for at := int64(0); at < fileHeader; at++ {
		refused(fmt.Sprint("the header at ", at), flip(2, at))
	}
	for range 200 {
		at := firstRecord + rand.Int64N(before-firstRecord)
		refused(fmt.Sprint("the last file at ", at), flip(j.File(), at))
	}
	size := int64(16 << 10)
	for range 200 {
		at := firstRecord + rand.Int64N(size-firstRecord)
		refused(fmt.Sprint("the first file at ", at), flip(1, at))
	}
	for file := uint64(1); file < j.File(); file++ {
		refused(fmt.Sprint("without file ", file), func(dir string) {
			_ = os.Remove(filepath.Join(dir, filepath.Base(j.path(file))))
		})
	}
	refused("without any file", func(dir string) {
		logs, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
		for _, l := range logs {
			_ = os.Remove(l)
		}
	})
}

func TestFailedSyncIsTold(t *testing.T) {
	fault := errors.New("a dead disk")
	dead := false
	j, _ := open(t, t.TempDir(), -1, Options{Sync: func(f *os.File) error {
		if dead {
			return fault
		}
		return nil
	}})
	appendN(t, j, 1)
	dead = true
	if _, err := j.Append(rowsOf(2), nil); !errors.Is(err, fault) {
		t.Error(err)
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// token is a kv.Durable that is there or not.
type token string

func (t token) Wait() error   { return nil }
func (t token) Token() []byte { return []byte(t) }

func TestLastRecordGoesWithWhatItNeeds(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir, -1, Options{})
	for n := range uint64(5) {
		if _, err := j.Append(rowsOf(n+1), []kv.Durable{token(fmt.Sprint("body ", n+1)), token("more")}); err != nil {
			t.Fatal(err)
		}
	}
	_ = j.Close()
	var asked []string
	there := map[string]bool{"body 5": true, "more": true}
	o := Options{Whole: func(token []byte) (bool, error) {
		asked = append(asked, string(token))
		return there[string(token)], nil
	}}
	j, found := open(t, dir, 0, o)
	check(t, "all there", found, 1, 5)
	if !slices.Equal(asked, []string{"body 5", "more"}) {
		t.Errorf("asked for %q", asked)
	}
	_ = j.Close()
	there["more"], asked = false, nil
	j, found = open(t, dir, 0, o)
	if found = found[:5]; len(asked) > 0 { // the sixth is empty
		t.Errorf("asked again for %q", asked)
	}
	check(t, "asked once", found, 1, 5)
	if _, err := j.Append(rowsOf(7), []kv.Durable{token("more")}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	j, found = open(t, dir, 0, o)
	check(t, "not there", found[:5], 1, 5)
	if len(found) != 6 || len(found[5].rows) != 0 {
		t.Errorf("what is not whole is there: %v", found)
	}
	there["more"] = true
	_ = j.Close()
	j, found = open(t, dir, 0, o)
	if len(found) != 7 || len(found[6].rows) != 0 {
		t.Errorf("what was gone came back: %v", found)
	}
	if _, err := j.Append(rowsOf(8), []kv.Durable{token("more")}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	fault := errors.New("no disk")
	o.Whole = func([]byte) (bool, error) { return false, fault }
	if _, _, err := try(dir, 0, o); !errors.Is(err, fault) {
		t.Errorf("nobody knows whether the last record is whole, and Open says %v", err)
	}
	if _, _, err := try(dir, 0, Options{}); err == nil {
		t.Error("there is nobody to ask, and Open does not mind")
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(appendRecord(nil, rowsOf(7), []kv.Durable{token("a")})[recordHeader:])
	f.Add(appendRecord(nil, nil, nil)[recordHeader:])
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, tokens, err := parsePayload(b)
		if err != nil {
			return
		}
		var needs []kv.Durable
		for _, k := range tokens {
			needs = append(needs, token(k))
		}
		again, tokens2, err := parsePayload(appendRecord(nil, rows, needs)[recordHeader:])
		if err != nil || len(again) != len(rows) || len(tokens2) != len(tokens) {
			t.Fatalf("%d rows and %d tokens come back as %d and %d: %v", len(rows), len(tokens), len(again), len(tokens2), err)
		}
		for i := range rows {
			if !bytes.Equal(rows[i].Key, again[i].Key) || !bytes.Equal(rows[i].Value, again[i].Value) ||
				rows[i].Deleted != again[i].Deleted || rows[i].Expires != again[i].Expires {
				t.Errorf("row %d comes back as %v", i, again[i])
			}
		}
	})
}

// FuzzOpen opens a log with anything in a file from some octet on.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("noise"), uint16(0))
	f.Add([]byte{}, uint16(100))
	f.Fuzz(func(t *testing.T, noise []byte, back uint16) {
		dir := t.TempDir()
		j, _ := open(t, dir, -1, Options{Sync: func(*os.File) error { return nil }})
		appendN(t, j, 4)
		at := max(firstRecord, j.end-int64(back))
		if _, err := j.f.WriteAt(noise, at); err != nil {
			t.Fatal(err)
		}
		_ = j.Close()
		again, found, err := try(dir, 0, Options{})
		if err != nil {
			return
		}
		_ = again.Close()
		check(t, "after noise", found, 1, uint64(len(found)))
	})
}

// A record whose sync failed may be whole in the kernel's memory alone, and the
// kernel takes it for written. Open writes it again before it counts.
func TestRecordOfFailedSyncIsWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	dead := false
	o := Options{Sync: func(*os.File) error {
		if dead {
			return errors.New("a dead disk")
		}
		return nil
	}}
	j, _ := open(t, dir, -1, o)
	appendN(t, j, 2)
	name, from := j.path(1), j.end
	stable := read(t, name)
	dead = true
	if _, err := j.Append(rowsOf(9), nil); err == nil {
		t.Fatal("no error")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	dead = false
	long := time.Unix(1e9, 0)
	if err := os.Chtimes(name, long, long); err != nil {
		t.Fatal(err)
	}
	j, found := open(t, dir, 0, o)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 3 || info.ModTime().Equal(long) {
		t.Errorf("%d records are there, written at %v", len(found), info.ModTime())
	}
	if now := read(t, name); !bytes.Equal(now[:from], stable[:from]) {
		t.Error("what was stable has changed")
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
