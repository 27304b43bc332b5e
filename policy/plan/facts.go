package plan

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// facts are what is known of a function before it is translated.
type facts struct {
	made    map[ir.Stmt]int32 // statements that make a constant
	dropped map[ir.Stmt]bool  // statements that added to one of them
	ends    map[ir.Stmt]bool  // statements that settle the function's value
	// owns is set when the function changes values that it finds in what it
	// built: then it must know what it built.
	owns bool
}

// examine finds the facts of a function that gives the value of variable
// result; -1 for an entry point.
func examine(t *translator, blocks []*ir.Block, result ir.Local) *facts {
	f := &facts{made: map[ir.Stmt]int32{}, dropped: map[ir.Stmt]bool{}, ends: map[ir.Stmt]bool{}}
	for _, b := range blocks {
		// Variables are numbered anew for each rule, so each is looked at alone.
		c := &folder{t: t, f: f, writes: map[ir.Local]int{}, changes: map[ir.Local]int{},
			others: map[ir.Local]bool{}, known: map[ir.Local]int32{}}
		each([]*ir.Block{b}, c.count)
		c.writes[result]++ // it is changed in other blocks
		for l := range c.changes {
			f.owns = f.owns || c.others[l]
		}
		c.block(b)
	}
	f.settle(t, blocks, result)
	return f
}

// settle finds the statements that give the function the only value it can
// have: nothing that comes after them matters.
func (f *facts) settle(t *translator, blocks []*ir.Block, result ir.Local) {
	inner := ir.Local(-1) // the variable in which a rule leaves its value
	each(blocks, func(s ir.Stmt) {
		if a, ok := s.(*ir.AssignVarOnceStmt); ok && a.Target == result {
			if l, ok := local(a.Source); ok {
				inner = l
			}
		}
	})
	var ends []ir.Stmt
	value, same := int32(0), true
	each(blocks, func(s ir.Stmt) {
		a, ok := s.(*ir.AssignVarOnceStmt)
		if !ok || a.Target != inner {
			return
		}
		if _, ok := local(a.Source); ok {
			same = false
			return
		}
		c := t.operand(a.Source)
		same = same && (value == 0 || value == c)
		value = c
		ends = append(ends, s)
	})
	if !same || inner < 0 {
		return
	}
	for _, s := range ends {
		f.ends[s] = true
	}
}

// each calls do with all statements of the blocks and of those in them.
func each(blocks []*ir.Block, do func(ir.Stmt)) {
	for _, b := range blocks {
		for _, s := range b.Stmts {
			do(s)
			each(inside(s), do)
		}
	}
}

// inside are the blocks of a statement.
func inside(s ir.Stmt) []*ir.Block {
	switch s := s.(type) {
	case *ir.BlockStmt:
		return s.Blocks
	case *ir.ScanStmt:
		return []*ir.Block{s.Block}
	case *ir.NotStmt:
		return []*ir.Block{s.Block}
	case *ir.WithStmt:
		return []*ir.Block{s.Block}
	}
	return nil
}

// local is the variable that an operand names.
func local(o ir.Operand) (ir.Local, bool) {
	switch v := o.Value.(type) {
	case ir.Local:
		return v, true
	case *ir.Local:
		return *v, true
	}
	return 0, false
}

// target is the variable that a statement writes; -1: none.
func target(s ir.Stmt) ir.Local {
	switch s := s.(type) {
	case *ir.MakeNullStmt:
		return s.Target
	case *ir.MakeNumberIntStmt:
		return s.Target
	case *ir.MakeNumberRefStmt:
		return s.Target
	case *ir.MakeArrayStmt:
		return s.Target
	case *ir.MakeObjectStmt:
		return s.Target
	case *ir.MakeSetStmt:
		return s.Target
	case *ir.AssignVarStmt:
		return s.Target
	case *ir.AssignVarOnceStmt:
		return s.Target
	case *ir.AssignIntStmt:
		return s.Target
	case *ir.ResetLocalStmt:
		return s.Target
	case *ir.DotStmt:
		return s.Target
	case *ir.LenStmt:
		return s.Target
	case *ir.CallStmt:
		return s.Result
	case *ir.CallDynamicStmt:
		return s.Result
	case *ir.ObjectMergeStmt:
		return s.Target
	case *ir.WithStmt:
		return s.Local
	}
	return -1
}

// changed is the collection that a statement adds to, and what it adds.
func changed(s ir.Stmt) (ir.Local, []ir.Operand) {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return s.Array, []ir.Operand{s.Value}
	case *ir.SetAddStmt:
		return s.Set, []ir.Operand{s.Value}
	case *ir.ObjectInsertStmt:
		return s.Object, []ir.Operand{s.Key, s.Value}
	case *ir.ObjectInsertOnceStmt:
		return s.Object, []ir.Operand{s.Key, s.Value}
	}
	return -1, nil
}

// folder finds what one rule makes of constants alone.
type folder struct {
	t       *translator
	f       *facts
	writes  map[ir.Local]int
	changes map[ir.Local]int
	others  map[ir.Local]bool // written by something that does not make a new value
	known   map[ir.Local]int32
}

func (c *folder) count(s ir.Stmt) {
	if scan, ok := s.(*ir.ScanStmt); ok {
		c.writes[scan.Key]++
		c.writes[scan.Value]++
		c.others[scan.Key], c.others[scan.Value] = true, true
	}
	if l := target(s); l >= 0 {
		c.writes[l]++
		switch s.(type) {
		case *ir.MakeArrayStmt, *ir.MakeObjectStmt, *ir.MakeSetStmt:
		default:
			c.others[l] = true
		}
	}
	if l, what := changed(s); what != nil {
		c.changes[l]++
	}
}

// pending is a collection that may turn out constant.
type pending struct {
	at    ir.Stmt
	value ast.Value
	added []ir.Stmt
}

// block folds one block and the blocks in it. What it finds holds in there only.
func (c *folder) block(b *ir.Block) {
	open := map[ir.Local]*pending{}
	var here []ir.Local
	know := func(l ir.Local, o int32, s ir.Stmt) {
		c.known[l] = o
		here = append(here, l)
		c.f.made[s] = o
	}
	for _, s := range b.Stmts {
		for _, inner := range inside(s) {
			c.block(inner)
		}
		if l, what := changed(s); what != nil {
			if p := open[l]; p == nil || !c.add(p, s, what) {
				delete(open, l)
			} else if len(p.added) == c.changes[l] {
				c.fold(p)
				know(l, c.t.constant(ast.NewTerm(p.value)), p.at)
				delete(open, l)
			}
			continue
		}
		l := target(s)
		if l < 0 || c.writes[l] != 1 {
			continue
		}
		switch s := s.(type) {
		case *ir.MakeNullStmt:
			know(l, constNull, s)
		case *ir.MakeNumberIntStmt:
			know(l, c.t.number(strconv.FormatInt(s.Value, 10)), s)
		case *ir.MakeNumberRefStmt:
			know(l, c.t.number(c.t.policy.Static.Strings[s.Index].Value), s)
		case *ir.MakeArrayStmt:
			open[l] = &pending{at: s, value: ast.NewArray()}
		case *ir.MakeObjectStmt:
			open[l] = &pending{at: s, value: ast.NewObject()}
		case *ir.MakeSetStmt:
			open[l] = &pending{at: s, value: ast.NewSet()}
		}
	}
	for _, l := range here {
		delete(c.known, l)
	}
}

func (c *folder) fold(p *pending) {
	for _, s := range p.added {
		c.f.dropped[s] = true
	}
}

// add adds constants to a collection; it reports false when not all of them are.
func (c *folder) add(p *pending, s ir.Stmt, what []ir.Operand) bool {
	terms := make([]*ast.Term, len(what))
	for i, o := range what {
		if l, ok := local(o); ok {
			k, ok := c.known[l]
			if !ok {
				return false
			}
			terms[i] = c.t.term(k)
		} else {
			terms[i] = c.t.term(c.t.operand(o))
		}
	}
	switch v := p.value.(type) {
	case *ast.Array:
		p.value = v.Append(terms[0])
	case ast.Set:
		v.Add(terms[0])
	case ast.Object:
		if len(terms) != 2 || v.Get(terms[0]) != nil {
			return false
		}
		v.Insert(terms[0], terms[1])
	}
	p.added = append(p.added, s)
	return true
}
