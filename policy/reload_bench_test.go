package policy

import (
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"testing/fstest"

	"behalf/policies"
)

// BenchmarkReload measures what it costs to put a changed set in force, from the
// files on: the defaults with a file of one's own that changes each time, once
// with a rule that changes, once with the data alone.
func BenchmarkReload(b *testing.B) {
	for _, what := range []string{"rule", "data"} {
		b.Run(what, func(b *testing.B) {
			n := 0
			folder := func() *source {
				n++
				src, err := readSource(changed(b, what, n))
				if err != nil {
					b.Fatal(err)
				}
				return src
			}
			e, err := New(b.Context(), Options{Defaults: changed(b, what, 0), Keep: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			used := func() int64 {
				var u syscall.Rusage
				if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
					b.Fatal(err)
				}
				return u.Utime.Nano() + u.Stime.Nano()
			}
			b.ReportAllocs()
			before := used()
			for b.Loop() {
				if err := e.offer(folder()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// changed are the defaults and rules of one's own, in their n-th version.
func changed(t testing.TB, what string, n int) fs.FS {
	t.Helper()
	dir := fstest.MapFS{}
	entries, err := fs.ReadDir(policies.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		b, err := fs.ReadFile(policies.FS, entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		dir[entry.Name()] = &fstest.MapFile{Data: b}
	}
	rule, data := 0, 0
	if what == "rule" {
		rule = n
	} else {
		data = n
	}
	for stage, pkg := range map[string]string{"sender": PackageSender, "recipient": PackageRecipient, "message": PackageMessage} {
		dir["own/"+stage+".rego"] = &fstest.MapFile{Data: fmt.Appendf(nil, `package %s

rewrite contains {"rule": "mark-%s", "op": "add_header", "name": "X-Set-%s", "value": sprintf("%%d %%d", [%d, data.own.number])}

warn contains {"rule": "late-%s", "reason": "it is late"} if {
	input.stream == "broadcast"
	startswith(input.tenant.name, "a")
	time.clock(input.time)[0] > data.own.hours[input.tenant.labels.plan]
}
`, pkg, stage, stage, rule, stage)}
	}
	dir["own/data.json"] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"number": %d, "hours": {"free": 18, "pro": 22}}`, data)}
	return dir
}
