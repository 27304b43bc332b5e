package dispatch

import (
	"container/heap"
	"time"
)

// alarm is a time at which a queue or a site wants to be looked at.
type alarm struct {
	at    time.Time
	pos   int // in the heap, from 1; 0 when not set
	queue *queue
	site  *site
}

// alarms is a heap of alarms, the earliest first.
type alarms []*alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarms) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i+1, j+1
}
func (h *alarms) Push(x any) {
	a := x.(*alarm)
	*h = append(*h, a)
	a.pos = len(*h)
}
func (h *alarms) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.pos = 0
	return a
}

// set moves a to at.
func (h *alarms) set(a *alarm, at time.Time) {
	if a.pos == 0 {
		a.at = at
		heap.Push(h, a)
	} else if !a.at.Equal(at) {
		a.at = at
		heap.Fix(h, a.pos-1)
	}
}

// sooner moves a to at unless it comes before that anyway.
func (h *alarms) sooner(a *alarm, at time.Time) {
	if a.pos == 0 || at.Before(a.at) {
		h.set(a, at)
	}
}

func (h *alarms) drop(a *alarm) {
	if a.pos != 0 {
		heap.Remove(h, a.pos-1)
	}
}

// due takes the first alarm if it is not after now.
func (h *alarms) due(now time.Time) *alarm {
	if len(*h) == 0 || (*h)[0].at.After(now) {
		return nil
	}
	return heap.Pop(h).(*alarm)
}
