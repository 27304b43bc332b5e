package policy

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"behalf/policy/plan"
)

// bombs are rules that take for ever, or all memory, where nothing stops them.
var bombs = map[string]string{
	"range":            `tag contains {"rule": "t", "value": "x"} if count(numbers.range(1, 50000000)) > 0`,
	"range by steps":   `tag contains {"rule": "t", "value": "x"} if count(numbers.range_step(1, 500000000, 2)) > 0`,
	"doubling":         `tag contains {"rule": "t", "value": "x"} if { a := concat("", [b9 | some _ in numbers.range(1, 100)]); count(a) > 0 }` + doubling(),
	"replace":          `tag contains {"rule": "t", "value": "x"} if { a := format_int(bits.lsh(1, 4000), 2); b := replace(a, "0", a); count(replace(b, "0", b)) > 0 }`,
	"shift":            `tag contains {"rule": "t", "value": "x"} if bits.lsh(1, 80000000000) > 0`,
	"big numbers":      `tag contains {"rule": "t", "value": "x"} if { a := bits.lsh(1, 13000); product([a | some _ in numbers.range(1, 5000)]) > 0 }`,
	"cross product":    `tag contains {"rule": "t", "value": "x"} if { r := numbers.range(1, 5000); some a in r; some b in r; some c in r; a + b + c == -1 }`,
	"cross comprehend": `tag contains {"rule": "t", "value": "x"} if { r := numbers.range(1, 5000); count([[a, b] | some a in r; some b in r]) > 0 }`,
	"nested sets":      `tag contains {"rule": "t", "value": "x"} if { r := numbers.range(1, 3000); count({{a, b} | some a in r; some b in r}) > 0 }`,
	"width":            `tag contains {"rule": "t", "value": "x"} if count(sprintf(concat("", ["%900000d%900000d%900000d%900000d" | some _ in numbers.range(1, 100)]), [1])) > 0`,
	"arguments":        `tag contains {"rule": "t", "value": "x"} if { a := format_int(bits.lsh(1, 13000), 2); count(sprintf(concat("", ["%[1]s" | some _ in numbers.range(1, 100000)]), [a])) > 0 }`,
	"network":          `tag contains {"rule": "t", "value": "x"} if count(net.cidr_expand("::/40")) > 0`,
	"paths":            `tag contains {"rule": "t", "value": "x"} if { n := numbers.range(1, 30); g := {a: [b | some b in n] | some a in n}; count(graph.reachable_paths(g, {1})) > 0 }`,
	"globs":            `tag contains {"rule": "t", "value": "x"} if regex.globs_match("a.*b.*c.*d.*e.*f.*g.*h.*i.*j.*k.*l.*", ".*a.*b.*c.*d.*e.*f.*g.*h.*i.*j.*k")`,
	"member":           `tag contains {"rule": "t", "value": "x"} if { r := numbers.range(1, 200000); some a in r; -a in r }`,
	"equal":            `tag contains {"rule": "t", "value": "x"} if { r := numbers.range(1, 200000); q := array.concat(r, [1]); some a in r; array.concat(r, [a]) == q; a > 1 }`,
	"functions":        `tag contains {"rule": "t", "value": "x"} if f20(1) == 0` + deep(),
	"regex":            `tag contains {"rule": "t", "value": "x"} if { a := concat("", ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" | some _ in numbers.range(1, 20000)]); regex.match("(a{1,30}){1,30}b", a) }`,
	"split":            `tag contains {"rule": "t", "value": "x"} if { a := concat("", ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" | some _ in numbers.range(1, 24000)]); count(split(a, "")) < 0 }`,
	"json":             `tag contains {"rule": "t", "value": "x"} if { a := concat(",", ["[[[[]]]],[[[[]]]],[[[[]]]]" | some _ in numbers.range(1, 35000)]); count(json.unmarshal(concat("", ["[", a, "]"]))) < 0 }`,
}

// doubling are rules b1 to b9, each a hundred times as long as the one before.
func doubling() string {
	var b strings.Builder
	b.WriteString("\nb0 := \"aaaaaaaaaa\"\n")
	for i := range 9 {
		n := string(rune('0' + i))
		b.WriteString("b" + string(rune('1'+i)) + " := concat(\"\", [b" + n + " | some _ in numbers.range(1, 100)])\n")
	}
	return b.String()
}

// deep are functions that call each other, each the next one twenty times.
func deep() string {
	var b strings.Builder
	b.WriteString("\nf0(x) := x\n")
	names := []string{"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f20"}
	for i := 1; i < len(names); i++ {
		b.WriteString(names[i] + "(x) := sum([" + names[i-1] + "(x + y) | some y in numbers.range(1, 20)])\n")
	}
	return b.String()
}

// TestBounds shows that no rule takes longer than the deadline allows, nor more
// memory than a few hundred megabytes, and that what it ran into is said.
func TestBounds(t *testing.T) {
	for name, rules := range bombs {
		t.Run(name, func(t *testing.T) {
			e := open(t, folder(sender+rules), Options{})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := e.Sender(context.Background(), &SenderInput{Time: 1})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			var limit *plan.Limit
			if !errors.As(err, &limit) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("neither a bound nor the deadline ended it: %v", err)
			}
			if made := (after.TotalAlloc - before.TotalAlloc) >> 20; made > 400 {
				t.Errorf("it made %d MiB", made)
			}
			if took > 5*time.Second { // 100 ms and 400 ms on a machine that is not busy
				t.Errorf("it took %v", took)
			}
			t.Logf("%v: %v, %d MiB", err, took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20)
		})
	}
}

// TestBoundsDoNotDepend shows that a bound in steps ends an evaluation at the
// same place each time, without any deadline.
func TestBoundsDoNotDepend(t *testing.T) {
	src, err := readSource(folder(sender + bombs["cross product"]))
	if err != nil {
		t.Fatal(err)
	}
	s, problems := compile(src, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for range 2 {
		_, err := s.stages[stageSender].decide(t.Context(), s, 0, &SenderInput{Time: 1}, nil)
		var limit *plan.Limit
		if !errors.As(err, &limit) || !strings.Contains(err.Error(), "takes more than 4000000 steps") {
			t.Errorf("got %v", err)
		}
	}
}
