package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// TestFolders: whatever happens to the folder while it is looked at, what is in
// force is a set that was there as a whole.
func TestFolders(t *testing.T) {
	move := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// pair is a set of two files that agree.
	pair := func(t *testing.T, dir, v string) {
		t.Helper()
		move(t, os.MkdirAll(dir, 0o700))
		write(t, dir, "a.rego", sender+fmt.Sprintf("tag contains {\"rule\": \"a\", \"value\": %q}\n", v))
		write(t, dir, "b.rego", sender+fmt.Sprintf("tag contains {\"rule\": \"b\", \"value\": %q}\n", v))
	}
	tests := []struct {
		name   string
		change func(t *testing.T, root string) // of the link root/now, which leads to root/one
		want   string
		bad    bool
	}{
		{"swapped by a link", func(t *testing.T, root string) {
			pair(t, filepath.Join(root, "two"), "two")
			move(t, os.Symlink("two", filepath.Join(root, "next")))
			move(t, os.Rename(filepath.Join(root, "next"), filepath.Join(root, "now")))
		}, "two", false},
		{"a file vanishes", func(t *testing.T, root string) { move(t, os.Remove(filepath.Join(root, "one", "b.rego"))) }, "one", false},
		{"all files vanish", func(t *testing.T, root string) {
			move(t, os.Remove(filepath.Join(root, "one", "a.rego")))
			move(t, os.Remove(filepath.Join(root, "one", "b.rego")))
		}, "one", true},
		{"the link leads nowhere", func(t *testing.T, root string) { move(t, os.RemoveAll(filepath.Join(root, "one"))) }, "one", true},
		{"a file in its place", func(t *testing.T, root string) {
			move(t, os.Remove(filepath.Join(root, "now")))
			write(t, root, "now", "no folder")
		}, "one", true},
		{"a file cut short", func(t *testing.T, root string) {
			write(t, filepath.Join(root, "one"), "b.rego", sender+"tag contains {\"rule\"")
		}, "one", true},
		{"a dangling file", func(t *testing.T, root string) {
			move(t, os.Symlink("nowhere", filepath.Join(root, "one", "c.rego")))
		}, "one", true},
		{"a file without end", func(t *testing.T, root string) {
			write(t, filepath.Join(root, "one"), "c.rego", strings.Repeat("# x\n", maxSource/4+1))
		}, "one", true},
		{"1,000 files", func(t *testing.T, root string) {
			for i := range maxFiles - 2 {
				write(t, filepath.Join(root, "one"), fmt.Sprintf("f%d.rego", i), fmt.Sprintf("package lib.f%d\n\nx := %d\n", i, i))
			}
		}, "one", false},
		{"1,001 files", func(t *testing.T, root string) {
			for i := range maxFiles - 1 {
				write(t, filepath.Join(root, "one"), fmt.Sprintf("f%d.rego", i), fmt.Sprintf("package lib.f%d\n\nx := %d\n", i, i))
			}
		}, "one", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			pair(t, filepath.Join(root, "one"), "one")
			move(t, os.Symlink("one", filepath.Join(root, "now")))
			synctest.Test(t, func(t *testing.T) {
				e, err := New(t.Context(), Options{Path: filepath.Join(root, "now"), Watch: true})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { e.Run(ctx) })
				time.Sleep(time.Second)
				tt.change(t, root)
				time.Sleep(1900 * time.Millisecond)
				synctest.Wait()
				d, err := e.Sender(t.Context(), &SenderInput{})
				if err != nil || len(d.Tags) == 0 || d.Tags[0] != tt.want || d.Tags[len(d.Tags)-1] != tt.want {
					t.Errorf("%+v, %v; want %s", d.Tags, err, tt.want)
				}
				if st := e.Status(); (st.Err != nil) != tt.bad {
					t.Errorf("status %v", st.Err)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// moving is a folder in which a second file changes when the first one is read.
type moving struct{ fstest.MapFS }

func (m moving) Open(name string) (fs.File, error) {
	if f := m.MapFS["b.rego"]; name == "a.rego" && f != nil {
		f.Data = append(f.Data, "# more\n"...)
	}
	return m.MapFS.Open(name)
}

// TestReadIsOneMoment: a folder that changes while it is read is not taken for a
// set.
func TestReadIsOneMoment(t *testing.T) {
	m := moving{fstest.MapFS{"a.rego": {Data: []byte(sender)}, "b.rego": {Data: []byte(sender)}}}
	f := watched{defaults: m}
	if _, err := f.read(); !errors.Is(err, errMoving) {
		t.Errorf("error %v", err)
	}
	delete(m.MapFS, "b.rego")
	if _, err := f.read(); err != nil {
		t.Error(err)
	}
}
