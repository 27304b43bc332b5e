package dispatch

import "behalf/mail"

// list is a line of queues. A queue stands in at most one.
type list struct{ head, tail *queue }

func (l *list) empty() bool { return l.head == nil }

func (l *list) push(q *queue) {
	q.in, q.prev, q.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = q
	} else {
		l.head = q
	}
	l.tail = q
}

func (l *list) remove(q *queue) {
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		l.head = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	} else {
		l.tail = q.prev
	}
	q.in, q.prev, q.next = nil, nil, nil
}

func (l *list) pop() *queue {
	q := l.head
	if q != nil {
		l.remove(q)
	}
	return q
}

// quantum is how many recipients a tenant may send in one visit of the ring. A
// job of more is paid for by visits given up.
const quantum = 1

// turns is a deficit round robin over tenants, each with its queues in line.
// All steps cost the same however many stand in line. The zero value is empty.
type turns struct {
	accounts    bool // charge is used: tenants are remembered until forgive
	first, last *turn
	of          map[mail.TenantID]*turn
}

// turn is one tenant's place in the ring.
type turn struct {
	tenant  mail.TenantID
	queues  list
	deficit int
	next    *turn
	linked  bool
}

func (t *turns) push(q *queue) {
	h := t.of[q.key.Tenant]
	if h == nil {
		if t.of == nil {
			t.of = map[mail.TenantID]*turn{}
		}
		h = &turn{tenant: q.key.Tenant, deficit: quantum}
		t.of[q.key.Tenant] = h
	}
	h.queues.push(q)
	t.link(h)
}

func (t *turns) link(h *turn) {
	if h.linked {
		return
	}
	h.linked, h.next = true, nil
	if t.last != nil {
		t.last.next = h
	} else {
		t.first = h
	}
	t.last = h
}

func (t *turns) unlinkFirst() *turn {
	h := t.first
	t.first = h.next
	if t.first == nil {
		t.last = nil
	}
	h.linked, h.next = false, nil
	return h
}

// pop takes the queue whose turn it is, and charges its tenant one recipient.
func (t *turns) pop() *queue {
	for t.first != nil {
		h := t.first
		if h.queues.empty() {
			t.retire(t.unlinkFirst())
			continue
		}
		if h.deficit <= 0 { // the visit is over, or it still pays for an earlier one
			h.deficit += quantum
			t.link(t.unlinkFirst())
			continue
		}
		q := h.queues.pop()
		h.deficit--
		if h.queues.empty() {
			t.retire(t.unlinkFirst())
		}
		return q
	}
	return nil
}

// retire ends the last visit of a tenant that has nothing in line. Credit is
// not kept, debt is.
func (t *turns) retire(h *turn) {
	h.deficit = min(h.deficit+quantum, quantum)
	if !t.accounts {
		delete(t.of, h.tenant)
	}
}

// charge takes n more recipients from a tenant's account.
func (t *turns) charge(tenant mail.TenantID, n int) {
	if h := t.of[tenant]; h != nil {
		h.deficit -= n
	}
}

// forgive drops the accounts of tenants that have nothing in line.
func (t *turns) forgive() {
	for id, h := range t.of {
		if !h.linked {
			delete(t.of, id)
		}
	}
}
