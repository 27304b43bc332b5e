package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"behalf/relay/replay"
)

// maxReplayFile bounds one file of a set that is sent to a server.
const maxReplayFile = 20 << 20

// policyReplayCommand tries a set on recorded traffic.
func policyReplayCommand(f *clientFlags) *cobra.Command {
	var since, until, tenant, folder string
	var examples int
	var active, fail bool
	var out output
	cmd := &cobra.Command{Use: "replay [--path NEW]", Short: "What a set would have decided on recorded traffic", Args: noArgs,
		Long: "Asks a set of policies what others were asked since a time, and tells what it would have decided differently.\n" +
			"Without --path the set that waits to be accepted is meant. With -o jsonl every decision that differs is written as it is found.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			c.patient = true
			if active && folder != "" {
				return usageError{errors.New("give --path or --active, not both")}
			}
			body, err := replayBody(folder, active)
			if err != nil {
				return err
			}
			q := url.Values{"since": {since}, "examples": {fmt.Sprint(examples)}}
			for name, v := range map[string]string{"until": until, "tenant": tenant} {
				if v != "" {
					q.Set(name, v)
				}
			}
			resp, err := c.do(cmd.Context(), http.MethodPost, "/v1/policies/replay", q, bytes.NewReader(body), http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-ndjson"}})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			raw, err := followReplay(cmd, resp.Body, out.format == "jsonl")
			if err != nil {
				return err
			}
			var report replay.Report
			if err := json.Unmarshal(raw, &report); err != nil {
				return fmt.Errorf("reading the server's answer: %w", err)
			}
			switch out.format {
			case "jsonl": // told already
			case "table":
				err = showReplay(cmd.OutOrStdout(), &report)
			default:
				err = out.one(cmd.OutOrStdout(), raw)
			}
			if err == nil && fail && !report.Clean() {
				err = errors.New("the set decides differently, or not all could be decided")
			}
			return err
		}}
	cmd.Flags().StringVar(&since, "since", "24h", "from `TIME` on: RFC 3339, or how long ago, such as 24h or 7d")
	cmd.Flags().StringVar(&until, "until", "", "before `TIME`; default now")
	cmd.Flags().StringVar(&tenant, "tenant", "", "only of this `TENANT`")
	cmd.Flags().StringVar(&folder, "path", "", "`FOLDER` of the policies to try; default the set that waits to be accepted")
	cmd.Flags().BoolVar(&active, "active", false, "try the set in force, which should show no difference")
	cmd.Flags().IntVar(&examples, "examples", 20, "`N` decisions to show")
	cmd.Flags().BoolVar(&fail, "fail-on-difference", false, "exit with 1 when anything differs")
	out.add(cmd)
	return cmd
}

// replayBody names the set to try: the files of a folder, the set in force, or
// with nothing the set that waits.
func replayBody(folder string, active bool) ([]byte, error) {
	if active {
		return []byte(`{"active":true}`), nil
	}
	if folder == "" {
		return nil, nil
	}
	root, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, fmt.Errorf("--path: %w", err)
	}
	files := map[string]string{}
	dir := os.DirFS(root)
	err = fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), ".") && d.IsDir():
			return fs.SkipDir
		case d.IsDir() || strings.HasPrefix(d.Name(), ".") || !isPolicyFile(name):
			return nil
		}
		f, err := dir.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxReplayFile+1))
		if err == nil && len(b) > maxReplayFile {
			err = fmt.Errorf("%s is too large", name)
		}
		files[name] = string(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("--path: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("--path: %s holds no policies", folder)
	}
	return json.Marshal(files)
}

func isPolicyFile(name string) bool {
	switch base := path.Base(name); {
	case strings.HasSuffix(base, "_test.rego"):
		return false
	case strings.HasSuffix(base, ".rego"), base == "data.yaml", base == "data.yml", base == "data.json":
		return true
	}
	return false
}

// followReplay reads the lines of a replay up to its report. Progress goes to a
// terminal, differences to the output if they are wanted.
func followReplay(cmd *cobra.Command, r io.Reader, differences bool) (json.RawMessage, error) {
	var line struct {
		Progress           *replay.Progress
		Difference, Report json.RawMessage
		Error              string
	}
	progress := func(string) {}
	if e, ok := cmd.ErrOrStderr().(*os.File); ok && isTerminal(e) {
		progress = func(s string) { fmt.Fprintf(e, "\r\x1b[K%s", s) }
	}
	defer progress("")
	for d := json.NewDecoder(bufio.NewReader(r)); ; {
		line.Progress, line.Difference, line.Report, line.Error = nil, nil, nil, ""
		if err := d.Decode(&line); err != nil {
			return nil, fmt.Errorf("the replay broke off: %w", err)
		}
		switch {
		case line.Error != "":
			return nil, errors.New(line.Error)
		case line.Report != nil:
			return line.Report, nil
		case line.Difference != nil && differences:
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", line.Difference); err != nil {
				return nil, err
			}
		case line.Progress != nil:
			p := line.Progress
			progress(fmt.Sprintf("%d%%  %d decisions, %d differ", 100*p.Done/max(p.Total, 1), p.Decisions, p.Differing))
		}
	}
}

func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// showReplay writes a report for people.
func showReplay(w io.Writer, r *replay.Report) error {
	fmt.Fprintf(w, "%d decisions in %d transactions: %d same, %d differ, %d not reached, %d undecidable, %d errors\n",
		r.Decisions, r.Transactions, r.Same, r.Differing, r.NotReached, r.Undecidable, r.Errors)
	for _, m := range r.MissingFacts {
		fmt.Fprintf(w, "not recorded for %d decisions: %s\n", m.Decisions, clean(m.Fact))
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "unreadable: %s at %d: %s\n", s.File, s.Offset, s.Why)
	}
	for _, part := range []struct {
		items   any
		n       int
		columns []column
	}{
		{r.Rules, len(r.Rules), []column{{"DECISIONS", "decisions"}, {"STAGE", "package"}, {"WAS", "was"}, {"BY", "was_rule"}, {"WOULD", "would"}, {"BY", "would_rule"}}},
		{r.Limits, len(r.Limits), []column{{"TENANT", "tenant"}, {"LIMIT", "rule"}, {"DEFERRED", "was.deferred"}, {"WOULD", "would.deferred"}, {"PACED", "was.paced"}, {"WOULD", "would.paced"}, {"HELD", "was.held"}, {"WOULD", "would.held"}}},
		{r.Tenants, len(r.Tenants), []column{{"TENANT", "tenant"}, {"DECISIONS", "decisions"}, {"DIFFER", "differing"}, {"UNDECIDABLE", "undecidable"}}},
		{r.Examples, len(r.Examples), []column{{"TIME", "time"}, {"TENANT", "tenant"}, {"CREDENTIAL", "credential"}, {"FROM", "from"}, {"RECIPIENT", "recipient"}, {"SUBJECT", "subject"}, {"DIFFERENCE", "difference.summary"}}},
	} {
		if part.n == 0 {
			continue
		}
		b, err := json.Marshal(part.items)
		if err != nil {
			return err
		}
		var items []json.RawMessage
		if err := json.Unmarshal(b, &items); err != nil {
			return err
		}
		fmt.Fprintln(w)
		if err := table(w, items, part.columns); err != nil {
			return err
		}
	}
	return nil
}
