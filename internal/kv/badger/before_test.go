package badger

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"

	"behalf/internal/kv"
)

// An earlier version that was killed leaves logs that do not fit into a table in
// memory of today, at the size that Badger maps or cut to what was written.
func TestLargerTablesOfBefore(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) { largerTables(t, cut) })
	}
}

func largerTables(t *testing.T, cut bool) {
	const rows = 24
	then := t.TempDir()
	db, err := badgerdb.Open(settings(then, slog.New(slog.DiscardHandler), newPacer()).WithMemTableSize(memTableBefore))
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, kv.MaxValue)
	for i := range rows {
		if err := db.Update(func(txn *badgerdb.Txn) error { return txn.Set(fmt.Appendf(nil, "row/%02d", i), value) }); err != nil {
			t.Fatal(err)
		}
	}
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(then)); err != nil {
		t.Fatal(err)
	}
	if cut {
		logs, err := filepath.Glob(filepath.Join(killed, "*.mem"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs %v: %v", logs, err)
		}
		if err := os.Truncate(logs[0], rows*(kv.MaxValue+1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time with tables of today
		s, err := Open(killed, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		err = s.View(t.Context(), func(r kv.Reader) error {
			return r.Scan(kv.Range{Prefix: []byte("row/")}, func(_, v []byte) bool { got++; return len(v) == len(value) })
		})
		if err != nil || got != rows {
			t.Errorf("%d of %d rows are there: %v", got, rows, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if size := memTableOf(killed); size != memTable {
		t.Errorf("tables in memory stay at %d octets", size)
	}
}
