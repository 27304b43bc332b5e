package dispatch

import "time"

// An attempt that has waited for a peer for a second, or for a tenth of it when
// all workers have something to do, gives its worker's place to others, and is
// in the waiting account until it ends. So hops that accept
// and never answer leave the workers to those that do. The account has a bound
// of its own; when half of it is used up, a tenant may have an eighth of what it
// may have otherwise, less as it fills, and a site where nobody has had a
// session lately is tried by one job at a time.
const (
	waitsAfter  = time.Second
	waitsEarly  = waitsAfter / 10 // when no worker is left
	silentAfter = time.Minute
	crowdShare  = 4 // when it is crowded a tenant may have PerTenant by this, of what is left of it
)

// place is where a job stands among those under way.
type place struct {
	check      time.Time // when it is looked at whether it waits
	waits      bool      // it is in the waiting account
	lined      bool
	prev, next *job
}

// jobLine is a line of jobs by the time of their check.
type jobLine struct{ first, last *job }

func (l *jobLine) push(j *job) {
	j.lined, j.prev, j.next = true, l.last, nil
	if l.last != nil {
		l.last.next = j
	} else {
		l.first = j
	}
	l.last = j
}

func (l *jobLine) remove(j *job) {
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		l.first = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	} else {
		l.last = j.prev
	}
	j.lined, j.prev, j.next = false, nil, nil
}

// takePlace counts j as a worker's until it has waited for a peer too long.
func (d *Dispatcher) takePlace(j *job, now time.Time) {
	j.check = now.Add(waitsAfter)
	d.started.push(j)
}

// giveBack ends what j has of either account.
func (d *Dispatcher) giveBack(j *job) {
	if j.lined {
		d.started.remove(j)
	}
	if j.waits {
		j.waits = false
		d.waiting--
	}
}

// nextCheck is when the first job under way is to be looked at.
func (d *Dispatcher) nextCheck() time.Time {
	at := d.started.first.check
	if d.noPlace() && d.waiting < d.o.Waiting {
		at = at.Add(waitsEarly - waitsAfter)
	}
	return at
}

// lookAfterWaiting moves jobs that wait for a peer to the waiting account while
// it has room. The others are looked at again later.
func (d *Dispatcher) lookAfterWaiting(now time.Time) {
	for d.started.first != nil && !d.nextCheck().After(now) {
		j := d.started.first
		d.started.remove(j)
		if d.waiting < d.o.Waiting && j.atPeer.Load() {
			j.waits = true
			d.waiting++
			continue
		}
		d.takePlace(j, now)
	}
}

// noPlace reports whether all workers have something to do.
func (d *Dispatcher) noPlace() bool { return d.busy-d.waiting >= d.o.Workers }

// crowded reports whether much of the waiting account is used up.
func (d *Dispatcher) crowded() bool { return d.waiting >= max(1, d.o.Waiting/2) }

// capped reports whether t has enough under way.
func (d *Dispatcher) capped(t *tenant) bool {
	most := d.o.PerTenant
	if d.crowded() {
		most = max(1, most*(d.o.Waiting-d.waiting)/(d.o.Waiting*crowdShare))
	}
	return t.busy >= most
}

// limit is how many jobs may be under way at s.
func (d *Dispatcher) limit(s *site, now time.Time) int {
	if d.crowded() && s.silent(now) {
		return 1
	}
	return s.limit()
}

// room is how many more jobs may start at s, slots kept for others set aside.
// Where there is none, one of those jobs has s looked at again when it ends.
func (d *Dispatcher) room(s *site, now time.Time) int { return d.limit(s, now) - s.busy - s.promised }

// staff has a goroutine for each job, and keeps no more than Workers for later.
func (d *Dispatcher) staff(spawn func()) {
	for d.workers < d.busy {
		d.workers++
		spawn()
	}
	for d.workers > max(d.busy, d.o.Workers) {
		d.workers--
		d.work <- nil
	}
}
