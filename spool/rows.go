package spool

// rows are encoded values, one behind the other in one buffer.
type rows struct {
	b    []byte
	ends []int
	few  [2]int // room for ends
	rec  record
}

// add takes b, which is the rows so far with one more behind them.
func (r *rows) add(b []byte) {
	r.b = b
	if r.ends == nil {
		r.ends = r.few[:0]
	}
	r.ends = append(r.ends, len(b))
}

func (r *rows) len() int { return len(r.ends) }

func (r *rows) at(i int) []byte {
	from := 0
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.b[from:r.ends[i]:r.ends[i]]
}

// reset empties the rows and keeps their room, if it is not much.
func (r *rows) reset() {
	if cap(r.b) > keepBuffer {
		*r = rows{}
		return
	}
	r.b, r.ends = r.b[:0], r.ends[:0]
}
