package badger

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"behalf/internal/kv"
)

// table is what one file of the log holds, in order of keys: a skip list with
// one writer and any number of readers, who do not wait for each other. Every
// write of a key is kept under the number of its commit for as long as somebody
// may read it, so that a reader sees one state.
type table struct {
	file uint64 // of the log
	head node

	// The writer's: the nodes that will be used next, made many at once, and the
	// rows of a commit in order, the one next to the other in the list.
	fresh []node
	order []*kv.Row
}

const (
	tableHeight = 12 // a quarter of the nodes reach one level higher
	trimAt      = 8  // versions that a write looks at to find those nobody reads
	nodesAtOnce = 32
	keepOrder   = 4096 // rows, the largest order whose room is used again
)

type node struct {
	newest atomic.Pointer[version]
	next   []atomic.Pointer[node]
	first  version // the oldest, which has the key; here to save an allocation
	low    [2]atomic.Pointer[node]
}

func (n *node) key() []byte { return n.first.row.Key }

// version is what a commit wrote under a key.
type version struct {
	commit uint64
	row    kv.Row
	older  atomic.Pointer[version]
}

func newTable(file uint64) *table {
	t := &table{file: file}
	t.head.next = make([]atomic.Pointer[node], tableHeight)
	return t
}

// place is a point between two keys: on each level the last node before it.
type place [tableHeight]*node

// put writes the rows of a commit, which is later than all before; each has a
// key of its own. No reader reads a state older than oldest.
//
// The rows are put in order of keys: most belong next to the one before, which
// is much nearer than the head of the list.
func (t *table) put(rows []kv.Row, commit, oldest uint64) {
	for i := range rows {
		t.order = append(t.order, &rows[i])
	}
	slices.SortFunc(t.order, func(a, b *kv.Row) int { return bytes.Compare(a.Key, b.Key) })
	var at place
	for i := range at {
		at[i] = &t.head
	}
	for _, r := range t.order {
		t.putBehind(&at, r, commit, oldest)
	}
	clear(t.order) // the rows are not ours
	if t.order = t.order[:0]; cap(t.order) > keepOrder {
		t.order = nil
	}
}

// putBehind writes a row whose key is behind at, and moves at to it.
func (t *table) putBehind(at *place, r *kv.Row, commit, oldest uint64) {
	if n := at.advance(r.Key); n != nil && bytes.Equal(n.key(), r.Key) {
		n.put(*r, commit, oldest)
		return
	}
	n := t.newNode(r, commit)
	for i := range n.next {
		n.next[i].Store(at[i].next[i].Load())
	}
	for i := range n.next {
		at[i].next[i].Store(n) // from the bottom: whoever sees it can go on from it
		at[i] = n
	}
}

// advance moves on to key and gives the first node at or behind it.
func (p *place) advance(key []byte) *node {
	top := 0 // the lowest level on which nothing lies between
	for top < tableHeight-1 {
		if next := p[top].next[top].Load(); next == nil || bytes.Compare(next.key(), key) >= 0 {
			break
		}
		top++
	}
	var at, beyond *node // where it went to, and the first node known to be at or behind key
	for i := top; i >= 0; i-- {
		if at != nil {
			p[i] = at // a higher level led farther
		}
		next := p[i].next[i].Load()
		for next != nil && next != beyond && bytes.Compare(next.key(), key) < 0 {
			at, p[i] = next, next
			next = next.next[i].Load()
		}
		beyond = next
	}
	return beyond
}

// newNode gives a node with its first version. Nodes stay as long as their
// table, so they may share an allocation.
func (t *table) newNode(r *kv.Row, commit uint64) *node {
	if len(t.fresh) == 0 {
		t.fresh = make([]node, nodesAtOnce)
	}
	n := &t.fresh[0]
	t.fresh = t.fresh[1:]
	n.first.commit, n.first.row = commit, *r
	n.newest.Store(&n.first)
	height := 1
	for height < tableHeight && rand.Uint32()%4 == 0 {
		height++
	}
	if height <= len(n.low) {
		n.next = n.low[:height]
	} else {
		n.next = make([]atomic.Pointer[node], height)
	}
	return n
}

// put adds a version and lets go of those that nobody reads any more.
func (n *node) put(r kv.Row, commit, oldest uint64) {
	v := &version{commit: commit, row: r}
	old := n.newest.Load()
	v.older.Store(old)
	n.newest.Store(v)
	for range trimAt {
		if old == nil {
			return
		}
		if old.commit <= oldest {
			old.older.Store(nil)
			return
		}
		old = old.older.Load()
	}
}

// at gives the row as it was after a commit; nil: it was not written by then.
func (n *node) at(commit uint64) *kv.Row {
	v := n.newest.Load()
	for v != nil && v.commit > commit {
		v = v.older.Load()
	}
	if v == nil {
		return nil
	}
	return &v.row
}

// find gives the first node at or behind key.
func (t *table) find(key []byte) *node {
	at := &t.head
	var beyond *node // known to be at or behind key
	for i := tableHeight - 1; i >= 0; i-- {
		next := at.next[i].Load()
		for next != nil && next != beyond && bytes.Compare(next.key(), key) < 0 {
			at, next = next, next.next[i].Load()
		}
		beyond = next
	}
	return beyond
}

// before gives the last node before key; nil: there is none.
func (t *table) before(key []byte) *node {
	at := &t.head
	for i := tableHeight - 1; i >= 0; i-- {
		for next := at.next[i].Load(); next != nil && bytes.Compare(next.key(), key) < 0; next = at.next[i].Load() {
			at = next
		}
	}
	if at == &t.head {
		return nil
	}
	return at
}

// get gives the row under key after a commit; nil: this table does not know.
func (t *table) get(key []byte, commit uint64) *kv.Row {
	if n := t.find(key); n != nil && bytes.Equal(n.key(), key) {
		return n.at(commit)
	}
	return nil
}

// cursor walks the rows of a table as they were after a commit.
type cursor struct {
	table   *table
	commit  uint64
	reverse bool
	node    *node // nil: at the end
	row     *kv.Row
}

// seek goes to the first row at or behind key, or in reverse to the last at or
// before it.
func (c *cursor) seek(key []byte) {
	if c.node = c.table.find(key); c.reverse && (c.node == nil || !bytes.Equal(c.node.key(), key)) {
		c.node = c.table.before(key)
	}
	c.settle()
}

func (c *cursor) step() {
	c.move()
	c.settle()
}

func (c *cursor) move() {
	if c.reverse {
		c.node = c.table.before(c.node.key())
	} else {
		c.node = c.node.next[0].Load()
	}
}

// settle goes on to a row that was there.
func (c *cursor) settle() {
	for c.row = nil; c.node != nil; c.move() {
		if c.row = c.node.at(c.commit); c.row != nil {
			return
		}
	}
}

// last gives the newest row of each key to fn, in order, with the first that
// this table got.
func (t *table) last(fn func(r, first *kv.Row) error) error {
	for n := t.head.next[0].Load(); n != nil; n = n.next[0].Load() {
		if err := fn(&n.newest.Load().row, &n.first.row); err != nil {
			return err
		}
	}
	return nil
}
