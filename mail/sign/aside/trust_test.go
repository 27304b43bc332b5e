package aside

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrust: keys are handed to no program that others could have put there.
func TestTrust(t *testing.T) {
	for name, c := range map[string]struct {
		change func(path string) error
		log    string
	}{
		"group may write":         {func(p string) error { return os.Chmod(p, 0o775) }, "can be written by its group or others (mode 0775)"},
		"others may write":        {func(p string) error { return os.Chmod(p, 0o757) }, "can be written by its group or others (mode 0757)"},
		"group may write beside":  {func(p string) error { return os.Chmod(filepath.Dir(p), 0o775) }, "the folder of "},
		"others may write beside": {func(p string) error { return os.Chmod(filepath.Dir(p), 0o757) }, "the folder of "},
		"sticky folder":           {func(p string) error { return os.Chmod(filepath.Dir(p), 0o777|os.ModeSticky) }, "the folder of "},
		"folder":                  {func(p string) error { os.Remove(p); return os.Mkdir(p, 0o755) }, "is not a regular file"},
		"link":                    {func(p string) error { os.Rename(p, p+"2"); return os.Symlink(p+"2", p) }, "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := program(t, "go")
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			refused(t, path, `level=WARN msg="RSA signatures" by=Go why=`, c.log)
		})
	}
	for _, path := range []string{"", "behalf-rsa"} {
		refused(t, path, `why="this program cannot tell where it lies"`)
	}
}

// refused checks that a helper is not started, and that the log says why.
func refused(t *testing.T, path string, want ...string) {
	t.Helper()
	var log bytes.Buffer
	h := New(path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err := h.Run(t.Context()); err != nil || h.children.Load() > 0 {
		t.Errorf("%q: %v, started %d times", path, err, h.children.Load())
	}
	for _, w := range want {
		if !strings.Contains(log.String(), w) {
			t.Errorf("%q: want %s in %s", path, w, log.String())
		}
	}
	if v, err := h.Version(t.Context()); err == nil {
		t.Errorf("%q: version %s", path, v)
	}
}

// TestOwner: the program is root's, or of who owns this one.
func TestOwner(t *testing.T) {
	path := file(t, "behalf-rsa", nil)
	f, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := trusted(path, f, folder, owner(f)); err != nil {
		t.Error(err)
	}
	if os.Getuid() != 0 {
		if err := trusted(path, f, folder, owner(f)+1); err == nil {
			t.Error("another user's program is trusted")
		}
		return
	}
	if err := os.Chown(path, 4711, -1); err != nil {
		t.Fatal(err)
	}
	refused(t, path, "belongs to user 4711")
}
