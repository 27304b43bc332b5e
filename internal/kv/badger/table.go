package badger

import (
	"bytes"
	"math/rand/v2"
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
}

const (
	tableHeight = 12 // a quarter of the nodes reach one level higher
	trimAt      = 8  // versions that a write looks at to find those nobody reads
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

// put writes a row of a commit, which is later than all before. No reader reads
// a state older than oldest.
func (t *table) put(r kv.Row, commit, oldest uint64) {
	var path [tableHeight]*node
	if n := t.find(r.Key, &path); n != nil && bytes.Equal(n.key(), r.Key) {
		n.put(r, commit, oldest)
		return
	}
	n := newNode(r, commit)
	for i := range n.next {
		n.next[i].Store(path[i].next[i].Load())
	}
	for i := range n.next {
		path[i].next[i].Store(n) // from the bottom: whoever sees it can go on from it
	}
}

func newNode(r kv.Row, commit uint64) *node {
	n := &node{}
	n.first.commit, n.first.row = commit, r
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

// find gives the first node at or behind key; path, if not nil, gets the last
// node before key on each level.
func (t *table) find(key []byte, path *[tableHeight]*node) *node {
	at := &t.head
	var beyond *node // known to be at or behind key
	for i := tableHeight - 1; i >= 0; i-- {
		next := at.next[i].Load()
		for next != nil && next != beyond && bytes.Compare(next.key(), key) < 0 {
			at, next = next, next.next[i].Load()
		}
		beyond = next
		if path != nil {
			path[i] = at
		}
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
	if n := t.find(key, nil); n != nil && bytes.Equal(n.key(), key) {
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
	if c.node = c.table.find(key, nil); c.reverse && (c.node == nil || !bytes.Equal(c.node.key(), key)) {
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
