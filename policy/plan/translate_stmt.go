package plan

import (
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// stmt translates one statement.
func (t *translator) stmt(s ir.Stmt) (stmt, error) {
	if c, ok := t.facts.made[s]; ok {
		return stmt{op: opAssign, t: t.variable(target(s)), a: c}, nil
	}
	switch s := s.(type) {
	case *ir.ReturnLocalStmt:
		return stmt{op: opReturn, a: t.variable(s.Source)}, nil
	case *ir.ResultSetAddStmt:
		return stmt{op: opResult, a: t.variable(s.Value)}, nil
	case *ir.CallStmt:
		return t.call(s)
	case *ir.CallDynamicStmt:
		return t.callDynamic(s)
	case *ir.BlockStmt:
		blocks, err := t.blocks(s.Blocks)
		return stmt{op: opBlocks, blocks: blocks}, err
	case *ir.BreakStmt:
		return stmt{op: opBreak, n: int32(s.Index)}, nil
	case *ir.ScanStmt:
		b, err := t.block(s.Block)
		return stmt{op: opScan, a: t.variable(s.Source), t: t.variable(s.Key), u: t.variable(s.Value), blocks: []block{b}}, err
	case *ir.NotStmt:
		b, err := t.block(s.Block)
		return stmt{op: opNot, blocks: []block{b}}, err
	case *ir.WithStmt:
		b, err := t.block(s.Block)
		out := stmt{op: opWith, t: t.variable(s.Local), a: t.operand(s.Value), blocks: []block{b}}
		for _, i := range s.Path {
			out.path = append(out.path, t.term(t.str(i)))
		}
		return out, err
	}
	return t.simple(s)
}

// simple translates a statement without blocks or calls.
func (t *translator) simple(s ir.Stmt) (stmt, error) {
	switch s := s.(type) {
	case *ir.AssignVarStmt:
		return stmt{op: opAssign, t: t.variable(s.Target), a: t.operand(s.Source)}, nil
	case *ir.AssignVarOnceStmt:
		return stmt{op: opAssignOnce, t: t.variable(s.Target), a: t.operand(s.Source)}, nil
	case *ir.AssignIntStmt:
		return stmt{op: opAssign, t: t.variable(s.Target), a: t.number(strconv.FormatInt(s.Value, 10))}, nil
	case *ir.MakeNullStmt:
		return stmt{op: opAssign, t: t.variable(s.Target), a: constNull}, nil
	case *ir.MakeNumberIntStmt:
		return stmt{op: opAssign, t: t.variable(s.Target), a: t.number(strconv.FormatInt(s.Value, 10))}, nil
	case *ir.MakeNumberRefStmt:
		return stmt{op: opAssign, t: t.variable(s.Target), a: t.number(t.policy.Static.Strings[s.Index].Value)}, nil
	case *ir.ResetLocalStmt:
		return stmt{op: opReset, t: t.variable(s.Target)}, nil
	case *ir.DotStmt:
		return stmt{op: opDot, t: t.variable(s.Target), a: t.operand(s.Source), b: t.operand(s.Key)}, nil
	case *ir.LenStmt:
		return stmt{op: opLen, t: t.variable(s.Target), a: t.operand(s.Source)}, nil
	case *ir.MakeArrayStmt:
		return stmt{op: opMakeArray, t: t.variable(s.Target), n: s.Capacity}, nil
	case *ir.MakeObjectStmt:
		return stmt{op: opMakeObject, t: t.variable(s.Target)}, nil
	case *ir.MakeSetStmt:
		return stmt{op: opMakeSet, t: t.variable(s.Target)}, nil
	case *ir.ArrayAppendStmt:
		return stmt{op: opAppend, t: t.variable(s.Array), a: t.operand(s.Value)}, nil
	case *ir.ObjectInsertStmt:
		return stmt{op: opInsert, t: t.variable(s.Object), a: t.operand(s.Key), b: t.operand(s.Value)}, nil
	case *ir.ObjectInsertOnceStmt:
		return stmt{op: opInsertOnce, t: t.variable(s.Object), a: t.operand(s.Key), b: t.operand(s.Value)}, nil
	case *ir.ObjectMergeStmt:
		return stmt{op: opMerge, t: t.variable(s.Target), a: t.variable(s.A), b: t.variable(s.B)}, nil
	case *ir.SetAddStmt:
		return stmt{op: opAdd, t: t.variable(s.Set), a: t.operand(s.Value)}, nil
	case *ir.EqualStmt:
		return stmt{op: opEqual, a: t.operand(s.A), b: t.operand(s.B)}, nil
	case *ir.NotEqualStmt:
		return stmt{op: opNotEqual, a: t.operand(s.A), b: t.operand(s.B)}, nil
	case *ir.IsArrayStmt:
		return stmt{op: opIsArray, a: t.operand(s.Source)}, nil
	case *ir.IsObjectStmt:
		return stmt{op: opIsObject, a: t.operand(s.Source)}, nil
	case *ir.IsSetStmt:
		return stmt{op: opIsSet, a: t.operand(s.Source)}, nil
	case *ir.IsDefinedStmt:
		return stmt{op: opIsDefined, a: t.variable(s.Source)}, nil
	case *ir.IsUndefinedStmt:
		return stmt{op: opIsUndefined, a: t.variable(s.Source)}, nil
	case *ir.NopStmt:
		return stmt{op: opBlocks}, nil
	}
	return stmt{}, fmt.Errorf("a statement of type %T: %w", s, errCannot)
}

func (t *translator) call(s *ir.CallStmt) (stmt, error) {
	out := stmt{op: opCall, t: t.variable(s.Result), args: t.operands(s.Args)}
	if out.fn = t.byName[s.Func]; out.fn != nil {
		if len(out.args) != len(out.fn.params) {
			return stmt{}, fmt.Errorf("a call of %s with %d arguments: %w", s.Func, len(out.args), errCannot)
		}
		return out, nil
	}
	if o, ok := inline(s.Func); ok && len(out.args) == 2 {
		return stmt{op: o, t: out.t, a: out.args[0], b: out.args[1]}, nil
	}
	out.op = opBuiltin
	var err error
	out.bi, err = t.builtin(s.Func)
	return out, err
}

// inline are the built-in functions done without a call.
func inline(name string) (op, bool) {
	switch name {
	case ast.Equal.Name:
		return opEqualCall, true
	case ast.NotEqual.Name:
		return opNotEqualCall, true
	case ast.LessThan.Name:
		return opLessCall, true
	case ast.LessThanEq.Name:
		return opLessOrEqualCall, true
	case ast.GreaterThan.Name:
		return opMoreCall, true
	case ast.GreaterThanEq.Name:
		return opMoreOrEqualCall, true
	case ast.Member.Name:
		return opMemberCall, true
	}
	return 0, false
}

func (t *translator) callDynamic(s *ir.CallDynamicStmt) (stmt, error) {
	if len(s.Args) != 2 {
		return stmt{}, fmt.Errorf("a dynamic call with %d arguments: %w", len(s.Args), errCannot)
	}
	path := t.operands(s.Path)
	if len(path) == 0 || path[0] >= 0 {
		return stmt{}, fmt.Errorf("a dynamic call of an unknown generation: %w", errCannot)
	}
	// Functions that take mocks besides cannot be called so.
	generation := t.term(path[0])
	for _, f := range t.policy.Funcs.Funcs {
		if len(f.Path) > 0 && len(f.Params) > 2 && generation.Value == ast.String(f.Path[0]) {
			return stmt{}, fmt.Errorf("a dynamic call among mocks: %w", errCannot)
		}
	}
	return stmt{op: opCallDynamic, t: t.variable(s.Result), a: t.variable(s.Args[0]), b: t.variable(s.Args[1]), args: path}, nil
}
