package main_test

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"behalf/internal/testkit/lab"
)

// call is one system call of the relay.
type call struct {
	name, args string
	begin, end float64 // seconds since the epoch
}

var (
	callLine   = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (\w+)\((.*)$`)
	resumeLine = regexp.MustCompile(`^(\d+) +(\d+\.\d+) <\.\.\. (\w+) resumed>(.*)$`)
	tookSuffix = regexp.MustCompile(`= (-?\d+).*<(\d+\.\d+)>$`)
)

// readCalls reads what strace wrote with -f -ttt -T -yy; calls that failed are
// left out.
func readCalls(t *testing.T, file string) []call {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []call
	open := map[string]call{}
	number := func(s string) float64 {
		v, _ := strconv.ParseFloat(s, 64) // the expression lets only numbers through
		return v
	}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		var c call
		if m := callLine.FindStringSubmatch(line); m != nil {
			c = call{name: m[3], args: m[4], begin: number(m[2])}
			if strings.HasSuffix(line, "<unfinished ...>") {
				open[m[1]] = c
				continue
			}
		} else if m := resumeLine.FindStringSubmatch(line); m != nil {
			c = open[m[1]]
			if c.name != m[3] {
				continue
			}
			// -T counts from the call's begin.
			line = m[4]
		} else {
			continue
		}
		if m := tookSuffix.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[1], "-") {
			c.end = c.begin + number(m[2])
			calls = append(calls, c)
		}
	}
	return calls
}

// Between the final dot and the 250 body and log are written, and both are
// synced, in whatever order. That is what a power cut asks for; a kill alone
// proves nothing about it.
func TestE2ESyncBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	strace := lab.Program(t, "strace")
	dir := lab.Dir(t)
	trace := filepath.Join(dir, "trace")
	w := lab.NewWorld(t, nil, nil)
	r := w.Relay(t, lab.RelayOptions{Binary: binary(t), Wrap: []string{strace, "-D", "-f", "-q", "-ttt", "-T", "-yy", "-s", "0", "-e", "trace=fsync,fdatasync,write,writev,sendto,pwrite64,pwritev", "-o", trace}})
	for name, size := range map[string]int{"small": 4 << 10, "large": 3 << 20} {
		c := login(t, r)
		if err := c.Mail(acmeFrom); err != nil {
			t.Fatal(err)
		}
		if err := c.Rcpt("later@sink.test"); err != nil {
			t.Fatal(err)
		}
		d, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		body := "Behalf-Send-At: " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + "\r\n" + message(acmeFrom, "later@sink.test", name) // no delivery disturbs the trace
		body += strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", size/72)
		if _, err := d.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // what came before the dot is done with
		dot := seconds(time.Now())
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		answered := seconds(time.Now())
		time.Sleep(300 * time.Millisecond)

		calls := slices.DeleteFunc(readCalls(t, trace), func(c call) bool { return c.begin < dot || c.begin > answered })
		// stored gives a write below the folder, not before from, and a sync of
		// that file that began after it.
		stored := func(folder string, from float64) (write, sync call) {
			written := slices.IndexFunc(calls, func(c call) bool {
				return (strings.HasPrefix(c.name, "pwrite") || c.name == "write") && strings.Contains(c.args, folder) && c.begin >= from
			})
			if written < 0 {
				t.Fatalf("%s: nothing was written below %s: %+v", name, folder, calls)
			}
			write = calls[written]
			file, _, _ := strings.Cut(write.args, ">")
			synced := slices.IndexFunc(calls, func(c call) bool {
				return (c.name == "fsync" || c.name == "fdatasync") && strings.HasPrefix(c.args, file) && c.begin >= write.end
			})
			if synced < 0 {
				t.Fatalf("%s: %s was not synced after it was written: %+v", name, file, calls)
			}
			return write, calls[synced]
		}
		bodyWrite, bodySync := stored("/data/bodies/", dot)
		_, logSync := stored("/data/store/", bodyWrite.end)
		reply := slices.IndexFunc(calls, func(c call) bool {
			return (c.name == "write" || c.name == "writev") && strings.Contains(c.args, "TCP:") && strings.Contains(c.args, r.Submission+"->")
		})
		if reply < 0 {
			t.Errorf("%s: the answer was not seen", name)
			continue
		}
		ms := func(at float64) float64 { return (at - dot) * 1000 }
		t.Logf("%s: after the dot, in ms: body synced (%s) %.2f to %.2f, log (%s) %.2f to %.2f, answer at %.2f", name,
			bodySync.name, ms(bodySync.begin), ms(bodySync.end), logSync.name, ms(logSync.begin), ms(logSync.end), ms(calls[reply].begin))
		for what, sync := range map[string]call{"body": bodySync, "log": logSync} {
			if calls[reply].begin < sync.end {
				t.Errorf("%s: the answer began %.6f s before the %s was synced", name, sync.end-calls[reply].begin, what)
			}
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
