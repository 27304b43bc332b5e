package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// op is what a statement does. Unless told otherwise a statement writes to
// variable t what it makes of the operands a and b.
type op uint8

const (
	opAssign      op = iota // t = a
	opAssignOnce            // t = a; a conflict if t has another value
	opReset                 // t = undefined
	opReturn                // end the function with a
	opResult                // a is the answer to entry point t
	opCall                  // t = fn(args), undefined ends the block
	opCallDynamic           // t = the function named by args(input, data)
	opBuiltin               // t = built-in(args), undefined ends the block
	opEqualCall             // t = a == b, and the like, without a call
	opNotEqualCall
	opLessCall
	opLessOrEqualCall
	opMoreCall
	opMoreOrEqualCall
	opMemberCall // t = a in b
	opBlocks     // run the blocks one after the other
	opBreak      // leave n more blocks
	opDot        // t = a[b], undefined ends the block
	opLen        // t = length of a
	opScan       // run the block with t, u = each key and value of a
	opNot        // end the block unless the block ends early
	opWith       // run the block with variable t, or what it has at path, being a
	opMakeArray  // t = an empty array, and so on; n is how much will be added
	opMakeObject
	opMakeSet
	opArray      // t = the array of args
	opObject     // t = the object of args: key, value, key, …
	opAppend     // add a to array t
	opInsert     // set a in object t to b
	opInsertOnce // the same; a conflict if it has another value
	opAdd        // add a to set t
	opMerge      // t = the objects a and b merged
	opEqual      // end the block unless a == b
	opNotEqual
	opIsArray // end the block unless a is one
	opIsObject
	opIsSet
	opIsDefined
	opIsUndefined
)

// stmt is one statement. Operands count variables from 0 up and constants from
// -1 down.
type stmt struct {
	op   op
	t, u int32
	a, b int32
	n    int32
	// strange is set when what a statement changes may not have been made here.
	strange bool
	args    []int32
	blocks  []block
	path    []*ast.Term
	fn      *function
	bi      *builtin
	at      *ast.Location
}

// block is statements that run until one is undefined.
type block []stmt

// function is a rule, or rules of one name.
type function struct {
	name   string
	index  int // place among the remembered values
	params []int32
	vars   int // how many variables it has
	body   []block
	// pure functions have no arguments but input and data, so that their value
	// is remembered.
	pure bool
}

// builtin is one of OPA's built-in functions.
type builtin struct {
	name     string
	call     topdown.BuiltinFunc
	void     bool // it gives no value
	relation bool // it gives any number of values
	context  bool // it needs more than its arguments
	check    func(m *machine, args []*ast.Term) error
}

// Program is rules ready to run.
type Program struct {
	consts       []*ast.Term
	entry        function // gives the answers of all entry points
	functions    []*function
	dynamic      map[string]*function // by path, parts joined by zero bytes
	capabilities *ast.Capabilities
	pool         machines
}
