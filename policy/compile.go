package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"behalf/policy/plan"
)

// Problem is one thing wrong with a policy set. Line is 0 when no line can be
// named, File is empty when no file can.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

// brief is the first line of a problem: the others point at the place in it.
func (p Problem) brief() string {
	first, _, _ := strings.Cut(p.String(), "\n")
	return first
}

// Problems are all that is wrong with a policy set; as an error it names the
// first few, each in one line.
type Problems []Problem

func (p Problems) Error() string {
	const shown = 5
	lines := make([]string, 0, shown+1)
	for i, one := range p {
		if i == shown {
			lines = append(lines, fmt.Sprintf("and %d more", len(p)-shown))
			break
		}
		lines = append(lines, one.brief())
	}
	return strings.Join(lines, "; ")
}

func (p Problems) sorted() Problems {
	slices.SortFunc(p, func(a, b Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Message, b.Message)
	})
	return slices.Compact(p)
}

// Needs tells which facts that cost something a policy set refers to; nobody
// has to find out the others.
type Needs struct {
	Sender, Recipient, Message bool // the stage has rules at all

	Usage           bool // input.usage of the tenant
	CredentialUsage bool // input.usage.credential
	FirstTime       bool // recipient.first_time, envelope.new_recipients
	Suppressed      bool // recipient.suppressed
	Headers         bool // message.headers
	Attachments     bool // message.attachments
	URLHosts        bool // message.url_hosts
	Candidates      bool // candidates
	ReverseDNS      bool // authentication.reverse_dns
	Bulk            bool // bulk
	Unusual         bool // unusual
}

// set is a compiled policy set, immutable. Sets share what did not change between
// them.
type set struct {
	contents
	digest string
	loaded time.Time
	store  storage.Store
	stages [stageCount]*program // nil: no rules
	// whole is all modules compiled together where some are helpers that no stage
	// uses; nil: there are none.
	whole *ast.Compiler
	files map[ruleName]string
	// documents is the data, beside the store.
	documents documents
	needs     Needs
	answers   [stageCount]answers // given of late
}

// ruleName identifies what a result object says of itself.
type ruleName struct{ pkg, result, rule string }

// program is what one stage runs. It depends on its modules alone, not on data.
type program struct {
	stage    int
	modules  map[string]*ast.Module // as parsed
	compiler *ast.Compiler
	query    ast.Body
	plan     *plan.Program // nil: OPA's planner cannot plan it
	why      error         // and this is why
	results  []string      // names of the result sets, in the order the query gives them
	fields   fields
}

// compile makes a set from its files, or says all that is wrong with them. What
// is the same in the set before, which may be nil, is taken from there.
func compile(src *source, before *set) (*set, Problems) {
	if before == nil {
		before = &set{contents: contents{source: newSource()}}
	}
	c, problems := readContents(src, &before.contents)
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	for _, name := range sortedKeys(c.modules) {
		if m := c.modules[name]; m != before.modules[name] {
			problems = append(problems, checkModule(m)...)
		}
	}
	s := &set{contents: *c, digest: src.digest(), loaded: time.Now(), files: ruleFiles(c.modules)}
	if err := s.useData(before); err != nil {
		return nil, Problems{{Message: "the data files: " + err.Error()}}
	}
	seen := map[string]bool{}
	for i := range s.stages {
		runtime.Gosched() // whoever waits to run is more urgent
		p, used, bad := s.compileStage(i, before.stages[i])
		s.stages[i] = p
		problems = append(problems, bad...)
		maps.Copy(seen, used)
	}
	if len(problems) == 0 {
		problems = s.compileRest(seen, before)
	}
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	s.needs = s.findNeeds()
	return s, nil
}

// useData makes the documents that rules see of the data files.
func (s *set) useData(before *set) error {
	if before.store != nil && s.sameData(&before.contents) {
		s.store, s.documents = before.store, before.documents
		return nil
	}
	v, err := ast.InterfaceToValue(s.data)
	if err != nil {
		return err
	}
	object := v.(ast.Object)
	s.documents = documents{object, ast.NewTerm(object)}
	s.store = inmem.NewFromASTObject(object.Copy())
	return nil
}

// compileRest compiles helpers that no stage uses, so that their errors show.
func (s *set) compileRest(used map[string]bool, before *set) (problems Problems) {
	for name, m := range s.modules {
		if used[name] || stageOf(packagePath(m)) >= 0 {
			continue
		}
		if before.whole != nil && maps.Equal(s.modules, before.modules) {
			s.whole = before.whole
			return s.conflicts(s.whole)
		}
		s.whole, problems = s.compileModules(s.modules, nil)
		return problems
	}
	return nil
}

// problemsOf turns OPA's errors into problems.
func problemsOf(file string, err error) Problems {
	var list ast.Errors
	var one *ast.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = ast.Errors{one}
	default:
		return Problems{{File: file, Message: err.Error()}}
	}
	problems := make(Problems, 0, len(list))
	for i, e := range list {
		if i > 0 && e.Code == ast.ParseErr && list[i-1].Code == ast.ParseErr && sameLine(e, list[i-1]) {
			continue // the parser's second guess at the same mistake
		}
		p := Problem{File: file, Message: e.Message}
		if e.Location != nil && e.Location.File != "" {
			p.File, p.Line = e.Location.File, e.Location.Row
		} else if e.Location != nil {
			p.Line = e.Location.Row
		}
		if e.Details != nil {
			for _, line := range e.Details.Lines() {
				p.Message += "\n\t" + line
			}
		}
		problems = append(problems, p)
	}
	return problems
}

func sameLine(a, b *ast.Error) bool {
	return a.Location != nil && b.Location != nil && a.Location.File == b.Location.File && a.Location.Row == b.Location.Row
}

// compileStage compiles the stage's package and the helper packages it reaches,
// against the stage's input type, unless they are those of the program before. It
// tells which files those are.
func (s *set) compileStage(i int, before *program) (*program, map[string]bool, Problems) {
	name := stages()[i].name
	modules, problems := reachable(s.modules, name)
	used := map[string]bool{}
	for file := range modules {
		used[file] = true
	}
	if len(modules) == 0 {
		return nil, used, problems
	}
	if before != nil && len(problems) == 0 && maps.Equal(modules, before.modules) {
		return before, used, append(s.conflicts(before.compiler), checkData(before.compiler, s.data)...)
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, typeSchema(i))
	compiler, bad := s.compileModules(modules, schemas)
	problems = append(problems, bad...)
	if len(problems) > 0 {
		return nil, used, problems
	}
	problems = append(checkData(compiler, s.data), checkResultTypes(compiler, modules, name)...)
	problems = append(problems, checkGets(modules, schemas)...)
	p := &program{stage: i, modules: modules, compiler: compiler, results: resultsIn(modules, name), fields: fieldsIn(compiler)}
	if len(problems) > 0 || len(p.results) == 0 {
		return nil, used, problems
	}
	if err := p.prepare(name); err != nil {
		return nil, used, problemsOf("", fmt.Errorf("preparing the query of %s: %w", name, err))
	}
	entries := make([]string, len(p.results))
	for i, r := range p.results {
		entries[i] = strings.ReplaceAll(name, ".", "/") + "/" + r
	}
	var err error
	if p.plan, err = plan.Load(context.Background(), compiler, entries); err != nil {
		p.why = fmt.Errorf("%s: %w", name, err)
	}
	return p, used, nil
}

func (s *set) compileModules(modules map[string]*ast.Module, schemas *ast.SchemaSet) (*ast.Compiler, Problems) {
	c := ast.NewCompiler().WithCapabilities(capabilities()).WithStrict(true).WithSchemas(schemas)
	s.withData(func(exists func([]string) (bool, error)) {
		c.WithPathConflictsCheck(exists).Compile(modules)
	})
	c.WithPathConflictsCheck(nil) // it outlives this data
	if c.Failed() {
		return nil, problemsOf("", c.Errors)
	}
	return c, nil
}

// conflicts finds rules and data of the same name.
func (s *set) conflicts(c *ast.Compiler) (problems Problems) {
	s.withData(func(exists func([]string) (bool, error)) {
		if errs := ast.CheckPathConflicts(c, exists); len(errs) > 0 {
			problems = problemsOf("", errs)
		}
	})
	return problems
}

// withData calls do with a function that tells where data is.
func (s *set) withData(do func(exists func([]string) (bool, error))) {
	ctx := context.Background()
	txn := storage.NewTransactionOrDie(ctx, s.store)
	defer s.store.Abort(ctx, txn)
	do(storage.NonEmpty(ctx, s.store, txn))
}

// prepare compiles the one query that gives all result sets at once. Only sets
// that have rules are in it; each of them is always defined, because a result
// must be a "contains" rule.
func (p *program) prepare(pkg string) error {
	terms := make([]*ast.Term, len(p.results))
	for i, r := range p.results {
		terms[i] = ast.NewTerm(append(ast.MustParseRef("data."+pkg), ast.StringTerm(r)))
	}
	var err error
	p.query, err = p.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.VarTerm("results"), ast.ArrayTerm(terms...))))
	return err
}

// resultsIn are the result sets for which the stage has rules.
func resultsIn(modules map[string]*ast.Module, pkg string) []string {
	var found []string
	for _, m := range modules {
		if packagePath(m) != pkg {
			continue
		}
		for _, r := range m.Rules {
			if name := headName(r); isResult(pkg, name) && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	slices.Sort(found)
	return found
}

// fieldsIn is which input fields the compiled modules may read.
func fieldsIn(c *ast.Compiler) fields {
	var f fields
	for _, m := range c.Modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			switch v := t.Value.(type) {
			case ast.Var:
				if v == ast.InputRootDocument.Value {
					f = allFields // the whole of it, passed on
				}
			case ast.Ref:
				if !v.HasPrefix(ast.InputRootRef) {
					return false
				}
				f |= fieldsOf(pathOf(v))
				for _, t := range v[1:] {
					ast.WalkTerms(t, func(t *ast.Term) bool {
						if r, ok := t.Value.(ast.Ref); ok && r.HasPrefix(ast.InputRootRef) {
							f |= fieldsOf(pathOf(r))
						}
						return false
					})
				}
				return true
			}
			return false
		})
	}
	return f
}

// pathOf is the path of a reference below its root; what is not a constant
// string is "".
func pathOf(r ast.Ref) []string {
	path := make([]string, 0, len(r)-1)
	for _, t := range r[1:] {
		s, _ := t.Value.(ast.String)
		path = append(path, string(s))
	}
	return path
}

func (s *set) findNeeds() Needs {
	var f fields
	var n Needs
	for i, has := range []*bool{stageSender: &n.Sender, stageRecipient: &n.Recipient, stageMessage: &n.Message} {
		if p := s.stages[i]; p != nil {
			*has = true
			f |= p.fields
		}
	}
	n.Usage, n.CredentialUsage = f&fUsage != 0, f&fUsageCredential != 0
	n.FirstTime, n.Suppressed = f&fFirstTime != 0, f&fSuppressed != 0
	n.Headers, n.Attachments, n.URLHosts = f&fHeaders != 0, f&fAttachments != 0, f&fURLHosts != 0
	n.Candidates = f&fCandidates != 0
	n.ReverseDNS, n.Bulk, n.Unusual = f&fReverseDNS != 0, f&fBulk != 0, f&fUnusual != 0
	return n
}
