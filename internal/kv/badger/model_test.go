package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
	"behalf/internal/kv/journal"
)

var bg = context.Background()

// small has log files so small that tables are frozen and flushed all the time.
var small = Options{logSize: 8 << 10}

func openSmall(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// model is what a store should hold.
type model map[string]string

func (m model) scan(r kv.Range) (rows []string) {
	keys := slices.Sorted(maps.Keys(m))
	if r.Reverse {
		slices.Reverse(keys)
	}
	for _, k := range keys {
		behind := r.From == nil || k >= string(r.From)
		if r.Reverse {
			behind = r.From == nil || k <= string(r.From)
		}
		if behind && bytes.HasPrefix([]byte(k), r.Prefix) {
			rows = append(rows, k+"="+m[k])
		}
	}
	return rows
}

func randomKey() []byte { return fmt.Appendf(nil, "%c/%03d", 'a'+rune(rand.IntN(4)), rand.IntN(120)) }

// change writes a few random rows to the store and the model.
func (m model) change(t testing.TB, s *Store) {
	t.Helper()
	next := maps.Clone(m)
	err := s.Update(bg, func(w kv.Writer) error {
		for range 1 + rand.IntN(20) {
			k, v := randomKey(), bytes.Repeat([]byte{byte('a' + rand.IntN(26))}, rand.IntN(200))
			var err error
			switch rand.IntN(8) {
			case 0, 1, 2:
				err = w.Delete(k)
				delete(next, string(k))
			case 3:
				err = w.PutFor(k, v, time.Hour)
				next[string(k)] = string(v)
			default:
				put := w.Put
				if _, there := next[string(k)]; !there && rand.IntN(2) == 0 {
					put = w.PutNew
				}
				err = put(k, v)
				next[string(k)] = string(v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(m, next)
	maps.DeleteFunc(m, func(k, _ string) bool { _, there := next[k]; return !there })
}

func (m model) check(t testing.TB, s *Store) {
	t.Helper()
	err := s.View(bg, func(r kv.Reader) error { return m.compare(r) })
	if err != nil {
		t.Fatal(err)
	}
}

func (m model) compare(r kv.Reader) error {
	for range 10 {
		k := randomKey()
		v, err := r.Get(k)
		want, there := m[string(k)]
		if there != (err == nil) || err != nil && !errors.Is(err, kv.ErrNotFound) || string(v) != want {
			return fmt.Errorf("%s is %q (%w), want %q", k, v, err, want)
		}
	}
	for range 6 {
		rg := kv.Range{Reverse: rand.IntN(2) == 0}
		if rand.IntN(2) == 0 {
			rg.Prefix = randomKey()[:2]
		}
		if rand.IntN(2) == 0 {
			rg.From = randomKey()
		}
		if rg.From != nil && !bytes.HasPrefix(rg.From, rg.Prefix) {
			rg.From = append(bytes.Clone(rg.Prefix), rg.From...)
		}
		var got []string
		err := r.Scan(rg, func(k, v []byte) bool {
			got = append(got, string(k)+"="+string(v))
			return true
		})
		if err != nil {
			return err
		}
		if want := m.scan(rg); !slices.Equal(got, want) {
			return fmt.Errorf("scan of %q from %q (reverse %t) gives %d rows, want %d", rg.Prefix, rg.From, rg.Reverse, len(got), len(want))
		}
	}
	return nil
}

// held is a View that goes on while the store changes.
type held struct {
	goOn, done chan struct{}
}

func hold(t *testing.T, s *Store, m model) held {
	h := held{make(chan struct{}), make(chan struct{})}
	begun, state := make(chan struct{}), maps.Clone(m)
	go func() {
		defer close(h.done)
		err := s.View(bg, func(r kv.Reader) error {
			close(begun)
			<-h.goOn
			return state.compare(r)
		})
		if err != nil {
			t.Error("an older state: ", err)
		}
	}()
	<-begun
	return h
}

func (h held) end() {
	close(h.goOn)
	<-h.done
}

// A store agrees with a plain map at any time: while tables are flushed, in
// views that began earlier, after a stop, and after a crash.
func TestModel(t *testing.T) {
	dir, m := t.TempDir(), model{}
	s := openSmall(t, dir, small)
	for range 12 {
		var views []held
		for range 60 {
			m.change(t, s)
			m.check(t, s)
			if rand.IntN(10) == 0 {
				views = append(views, hold(t, s, m))
			}
			if len(views) > 3 {
				views[0].end()
				views = views[1:]
			}
		}
		for _, v := range views {
			v.end()
		}
		if rand.IntN(2) == 0 {
			crashed := copyOpen(t, dir)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			dir = crashed
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openSmall(t, dir, small)
		m.check(t, s)
	}
}

// copyOpen copies the files of an open store, as they are. Badger must not make
// or remove a table meanwhile, or the copy is of no one time: then it begins anew.
func copyOpen(t testing.TB, dir string) string {
	t.Helper()
	for {
		before := tablesOf(t, dir)
		to := t.TempDir()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if errors.Is(err, fs.ErrNotExist) || e.Name() == "LOCK" {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if before == tablesOf(t, dir) {
			return to
		}
	}
}

// tablesOf is what Badger says of its tables, and the files that it has.
func tablesOf(t testing.TB, dir string) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x %q", manifest, names)
}

// logsOf reads Badger's logs.
func logsOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	logs := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil {
			logs[filepath.Base(name)] = b
		}
	}
	return logs
}

// forget loses pages of Badger's logs that changed since they were synced.
func forget(t testing.TB, dir string, synced map[string][]byte) {
	t.Helper()
	const page = 4096
	for name, b := range logsOf(t, dir) {
		old := make([]byte, len(b))
		copy(old, synced[name])
		for at := 0; at < len(b); at += page {
			end := min(at+page, len(b))
			if rand.IntN(2) == 0 {
				copy(b[at:end], old[at:end])
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// While a table is written to Badger the power goes. Any page of Badger's logs
// that was not synced may be lost then.
func TestPowerCutWhileFlushing(t *testing.T) {
	for _, at := range []string{"written", "synced", "freed", "renewed"} {
		t.Run(at, func(t *testing.T) {
			dir, m := t.TempDir(), model{}
			var acknowledged, rounds atomic.Int64
			type cut struct {
				dir   string
				least int64
			}
			cuts := make(chan cut, 4)
			synced := map[string][]byte{} // the flusher's
			o := small
			o.stage = func(stage string) error {
				if stage == "synced" || stage == "freed" {
					synced = logsOf(t, dir)
				}
				if stage == at && rounds.Add(1)%3 == 0 && len(cuts) < cap(cuts) {
					least := acknowledged.Load()
					to := copyOpen(t, dir)
					forget(t, to, synced)
					cuts <- cut{to, least}
				}
				return nil
			}
			s := openSmall(t, dir, o)
			history := []model{{}}
			for len(cuts) < cap(cuts) {
				n := len(history)
				next := maps.Clone(m)
				next.plan(n)
				history = append(history, next)
				if err := s.Update(bg, func(w kv.Writer) error { return next.write(w, m) }); err != nil {
					t.Fatal(err)
				}
				m = next
				acknowledged.Store(int64(n))
			}
			for range cap(cuts) {
				c := <-cuts
				after := openSmall(t, c.dir, small)
				n := number(t, after)
				if n < c.least {
					t.Fatalf("%d was acknowledged, %d is there", c.least, n)
				}
				history[n].check(t, after)
				_ = after.Close()
			}
		})
	}
}

// plan changes a few random rows and notes the number of the change.
func (m model) plan(n int) {
	for range 1 + rand.IntN(20) {
		if k := string(randomKey()); rand.IntN(3) == 0 {
			delete(m, k)
		} else {
			m[k] = string(bytes.Repeat([]byte{byte('a' + n%26)}, rand.IntN(200)))
		}
	}
	m["number"] = fmt.Sprint(n)
}

// write writes what differs from the state before.
func (m model) write(w kv.Writer, before model) error {
	for k := range before {
		if _, there := m[k]; !there {
			if err := w.Delete([]byte(k)); err != nil {
				return err
			}
		}
	}
	for k, v := range m {
		if old, there := before[k]; !there || old != v {
			if err := w.Put([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
	}
	return nil
}

func number(t testing.TB, s *Store) (n int64) {
	t.Helper()
	err := s.View(bg, func(r kv.Reader) error {
		v, err := r.Get([]byte("number"))
		if err == nil {
			_, err = fmt.Sscan(string(v), &n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Two rows that are always written together are always read together, however
// often tables turn.
func TestReadersSeeOneState(t *testing.T) {
	s := openSmall(t, t.TempDir(), small)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for g := range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Microsecond):
				}
				var seen []string
				err := s.View(bg, func(r kv.Reader) error {
					if g%2 == 0 {
						return r.Scan(kv.Range{Prefix: []byte("pair/"), Reverse: g == 2}, func(_, v []byte) bool {
							seen = append(seen, string(v))
							return true
						})
					}
					for _, k := range []string{"pair/a", "pair/b", "pair/z"} {
						v, err := r.Get([]byte(k))
						if err != nil && !errors.Is(err, kv.ErrNotFound) {
							return err
						}
						if err == nil {
							seen = append(seen, string(v))
						}
					}
					return nil
				})
				if err != nil || len(seen) > 0 && (len(seen) != 3 || seen[0] != seen[1] || seen[1] != seen[2]) {
					t.Errorf("one state has %q: %v", seen, err)
					return
				}
			}
		})
	}
	for n := range 1000 {
		err := s.Update(bg, func(w kv.Writer) error {
			v := fmt.Append(nil, n)
			return errors.Join(w.Put([]byte("pair/a"), v), w.Put([]byte("pair/b"), v), w.Put([]byte("pair/z"), v),
				w.Put(fmt.Appendf(nil, "other/%d", n%300), make([]byte, 100)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) > 1 {
		t.Errorf("%d states are held, and nobody reads", len(s.held))
	}
}

// A life that ends while its row is in a table hides what is below, and leaves
// nothing in Badger.
func TestLivesEndInTables(t *testing.T) {
	s := openSmall(t, t.TempDir(), small)
	fillTables := func() {
		t.Helper()
		for n := range 30 {
			err := s.Update(bg, func(w kv.Writer) error { return w.Put(fmt.Appendf(nil, "other/%d", n), make([]byte, 1000)) })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(fn func(kv.Writer) error) {
		t.Helper()
		if err := s.Update(bg, fn); err != nil {
			t.Fatal(err)
		}
	}
	write(func(w kv.Writer) error { return w.Put([]byte("a"), []byte("1")) })
	fillTables()
	write(func(w kv.Writer) error { return w.PutFor([]byte("a"), []byte("2"), time.Second) })
	time.Sleep(2100 * time.Millisecond)
	for range 2 { // in the table, and in Badger
		err := s.View(bg, func(r kv.Reader) error {
			if v, err := r.Get([]byte("a")); !errors.Is(err, kv.ErrNotFound) {
				t.Errorf("it holds %q: %v", v, err)
			}
			return r.Scan(kv.Range{Prefix: []byte("a")}, func(k, v []byte) bool {
				t.Errorf("a scan finds %q: %q", k, v)
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		fillTables()
	}
}

// What is written and deleted within one table never reaches Badger.
func TestShortLivesStayAboveBadger(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{})
	for n := range 500 {
		key := fmt.Appendf(nil, "m/%d", n)
		for _, fn := range []func(kv.Writer) error{
			func(w kv.Writer) error { return w.Put(key, make([]byte, 200)) },
			func(w kv.Writer) error { return w.Delete(key) },
		} {
			if err := s.Update(bg, fn); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.turn.Store(true)
	if err := s.Update(bg, func(w kv.Writer) error { return w.Put([]byte("last"), nil) }); err != nil {
		t.Fatal(err)
	}
	for s.flushing() {
		time.Sleep(time.Millisecond)
	}
	rows := 0
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	o := badgerdb.DefaultIteratorOptions
	o.AllVersions = true
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if !bytes.HasPrefix(it.Item().Key(), []byte(reservedOurs)) {
			rows++
		}
	}
	if rows > 0 || s.churn.deletes.Load() > 0 {
		t.Errorf("%d rows and marks of deletes are in Badger", rows)
	}
}

// An orderly stop leaves nothing in the log: Badger alone has everything.
func TestStopEmptiesTheLog(t *testing.T) {
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	if err := s.Update(t.Context(), func(w kv.Writer) error { return w.Put([]byte("k"), []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := badgerdb.Open(settings(dir, slog.New(slog.DiscardHandler), newPacer()))
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(txn *badgerdb.Txn) error {
		_, err := txn.Get([]byte("k"))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if s = openSmall(t, dir, Options{}); s.log.Used() > 0 {
		t.Errorf("%d octets are in the log", s.log.Used())
	}
	model{"k": "v"}.check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A store that was written before there was a log opens; one whose log is gone
// does not.
func TestLogIsThereOrNeverWas(t *testing.T) {
	dir := t.TempDir()
	db, err := badgerdb.Open(settings(dir, slog.New(slog.DiscardHandler), newPacer()).WithSyncWrites(true))
	if err == nil {
		err = db.Update(func(txn *badgerdb.Txn) error { return txn.Set([]byte("old"), []byte("1")) })
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s := openSmall(t, dir, small)
	model{"old": "1"}.check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, fmt.Sprintf("%016x.log", s.log.File()))); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, small); !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("without its log it opens: %v", err)
		if err == nil {
			_ = s.Close()
		}
	}
}

// A table that cannot be written to Badger fails the store, and nothing is lost.
func TestFlushFails(t *testing.T) {
	dir, m := t.TempDir(), model{}
	fault := errors.New("a dead disk")
	o := small
	o.stage = func(string) error { return fault }
	s := openSmall(t, dir, o)
	for n := 1; ; n++ {
		next := maps.Clone(m)
		next.plan(n)
		err := s.Update(bg, func(w kv.Writer) error { return next.write(w, m) })
		if errors.Is(err, kv.ErrFailed) && errors.Is(err, fault) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m = next
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	m.check(t, openSmall(t, dir, small))
}

// asked is a kv.Durable of a test.
type asked string

func (asked) Wait() error     { return nil }
func (a asked) Token() []byte { return []byte(a) }

// The last commit is gone after a crash if what it needs is.
func TestLastCommitNeeds(t *testing.T) {
	for _, whole := range []bool{true, false} {
		dir := t.TempDir()
		s := openSmall(t, dir, small)
		for n := range 3 {
			err := s.Update(bg, func(w kv.Writer) error {
				w.Needs(asked(fmt.Sprint("body ", n)))
				return w.Put(fmt.Append(nil, n), []byte("1"))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		crashed, o := copyOpen(t, dir), small
		o.Whole = func(token []byte) (bool, error) { return whole || string(token) != "body 2", nil }
		after := openSmall(t, crashed, o)
		rows := 0
		err := after.View(bg, func(r kv.Reader) error {
			return r.Scan(kv.Range{}, func(_, _ []byte) bool { rows++; return true })
		})
		if want := map[bool]int{true: 3, false: 2}[whole]; err != nil || rows != want {
			t.Errorf("what the last needs is there: %t; %d commits are, want %d: %v", whole, rows, want, err)
		}
	}
}
