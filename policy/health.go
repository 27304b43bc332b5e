package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/topdown"

	"behalf/policy/plan"
)

// Health is what anybody may be told: why the node should get no mail, and what
// else is wrong. It names stages, files and lines, and the kind of a failure.
// Neither messages nor rules nor folders are quoted; [Status] has the errors
// themselves.
func (st Status) Health() (reasons, warnings []string) {
	switch {
	case errors.Is(st.Err, errMissing):
		warnings = append(warnings, "policy: the policy folder is not there, and what was in force before the start is in force again")
	case st.Err != nil:
		reasons = append(reasons, "policy: the newest set was refused, the last good one is in force: "+outline(st.Err))
	}
	for _, f := range st.Failing {
		text := fmt.Sprintf("policy: %s failed %d of %d times in the last minute: %s", f.Package, f.Count, f.Asked, f.Kind)
		if f.Serious() {
			reasons = append(reasons, text)
		} else {
			warnings = append(warnings, text)
		}
	}
	return reasons, warnings
}

// told is an error whose text may be told to anybody.
type told struct{ text string }

func (t *told) Error() string { return t.text }

func tell(format string, args ...any) error { return &told{fmt.Sprintf(format, args...)} }

// outline is where a set is wrong, or why it could not be read.
func outline(err error) string {
	var problems Problems
	var plain *told
	var file *fs.PathError
	switch {
	case errors.As(err, &problems):
		return places(problems)
	case errors.As(err, &plain):
		return plain.text
	case errors.Is(err, errGone):
		return "the policy folder is gone"
	case errors.As(err, &file):
		why := "cannot be read"
		if errors.Is(err, fs.ErrNotExist) {
			why = "does not exist"
		}
		return filepath.Base(file.Path) + " " + why
	case errors.Is(err, errRefused):
		return "a bundle was refused"
	}
	return "it could not be loaded"
}

// places counts problems and says where the first of them are.
func places(problems Problems) string {
	const shown = 5
	var at []string
	for _, p := range problems {
		place := p.File
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d", p.File, p.Line)
		}
		if place != "" && !slices.Contains(at, place) {
			at = append(at, place)
		}
	}
	text := fmt.Sprintf("%d problems", len(problems))
	if len(problems) == 1 {
		text = "1 problem"
	}
	if len(at) > 0 {
		text += " in " + strings.Join(at[:min(shown, len(at))], ", ")
	}
	if more := len(at) - shown; more > 0 {
		text += fmt.Sprintf(" and %d other places", more)
	}
	return text
}

// kindOf is the kind of a failed evaluation.
func kindOf(err error) string {
	var bound *plan.Limit
	var at *topdown.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	case errors.As(err, &bound):
		return bound.Error()
	case errors.As(err, &at) && at.Location != nil && at.Location.File != "":
		return fmt.Sprintf("%s in %s:%d", at.Code, at.Location.File, at.Location.Row)
	case errors.As(err, &at):
		return at.Code
	}
	return "the answer is not of the form that decisions have"
}
