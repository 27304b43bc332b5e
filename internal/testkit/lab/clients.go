package lab

import (
	"embed"
	"os"
	"path/filepath"
	"testing"
)

// clients are small programs over other people's mail libraries.
//
//go:embed clients
var clients embed.FS

// Script puts one of the lab's scripts into a file and gives its path.
func Script(t testing.TB, name string) string {
	t.Helper()
	b, err := clients.ReadFile("clients/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return Write(t, Dir(t), name, string(b))
}

// Python runs one of the lab's scripts with Debian's Python, whose modules
// another Python first on the path would not find.
func Python(t testing.TB, input, script string, args ...string) (string, error) {
	t.Helper()
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		Missing(t, python)
	}
	return run(t, nil, input, python, append([]string{Script(t, script)}, args...)...)
}

// Node runs one of the lab's scripts with the modules of .cache/npm.
func Node(t testing.TB, input, script string, args ...string) (string, error) {
	t.Helper()
	modules := filepath.Join(Top(t), ".cache/npm/node_modules")
	if _, err := os.Stat(modules); err != nil {
		Missing(t, "what npm installs")
	}
	return run(t, []string{"NODE_PATH=" + modules}, input, Program(t, "node"), append([]string{Script(t, script)}, args...)...)
}
