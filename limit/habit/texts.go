package habit

// kind says what is known of the text of a message.
type kind uint8

const (
	known  kind = iota // of an earlier day's text
	single             // like no other
	mass               // like many of late, and not known
	kinds
)

func (k kind) String() string {
	return [kinds]string{"a text known from earlier days", "texts that are like no other", "a new text that many messages share"}[k]
}

const (
	knownAfter  = 3 // days on which a text passed before it is known
	massAfter   = 3 // messages alike before a text counts as mass mail
	learntAfter = 3 // messages of a day that make its text worth learning
	blamedAfter = 10
	blamedFor   = 14 // days
	forgotAfter = 60 // days without a message
)

// text is a text of earlier days.
type text struct {
	Like Likeness `cbor:"1,keyasint"`
	Days uint8    `cbor:"2,keyasint,omitempty"` // on which it passed
	Last uint16   `cbor:"3,keyasint,omitempty"` // day on which it passed last
	// New recipients: of its greatest day, how many a day it may reach as a known
	// text, and how many it has reached so today or is about to.
	Most float32 `cbor:"4,keyasint,omitempty"`
	Room float32 `cbor:"5,keyasint,omitempty"`
	Sent int64   `cbor:"6,keyasint,omitempty"`

	today float32 // while a day is learnt: new recipients that it reached
}

// recent is a text of these hours.
type recent struct {
	Like    Likeness `cbor:"1,keyasint"`
	Hour    uint32   `cbor:"2,keyasint"`           // of the last message
	Seen    uint32   `cbor:"3,keyasint,omitempty"` // messages, since there was none for a day
	Passed  uint32   `cbor:"4,keyasint,omitempty"` // today
	Held    uint32   `cbor:"5,keyasint,omitempty"` // while it was not known, and not released
	Reached uint32   `cbor:"6,keyasint,omitempty"` // new recipients, today
	Since   uint16   `cbor:"7,keyasint,omitempty"` // day from which it is blamed
}

// blamed tells whether mail of this text is held and nobody has said that it is
// usual.
func (r *recent) blamed() bool { return r.Held >= blamedAfter }

// blame counts a message that was held.
func (r *recent) blame(day uint16) {
	if r.Held++; r.Held == blamedAfter {
		r.Since = day
	}
}

// fade ends the blame in time, be there more such mail or not: what is held for
// blame alone must not keep it up.
func (r *recent) fade(day uint16) {
	if r.blamed() && int(day)-int(r.Since) >= blamedFor {
		r.Held, r.Since = 0, 0
	}
}

// host is one that links led to on earlier days.
type host struct {
	Hash  uint32 `cbor:"1,keyasint"`
	Days  uint8  `cbor:"2,keyasint,omitempty"`
	Last  uint16 `cbor:"3,keyasint,omitempty"`
	Today uint8  `cbor:"4,keyasint,omitempty"` // messages that passed, up to 255
}

// texts are what a credential writes, in bounded room.
type texts struct {
	Known  [32]text   `cbor:"1,keyasint"`
	Recent [16]recent `cbor:"2,keyasint"`
	Hosts  [32]host   `cbor:"3,keyasint"`
}

// note counts a message of the text to n new recipients and says of which kind it
// is. It is known only if all that it says is, and as far as its text has room;
// e is the text whose room it takes then.
func (t *texts) note(x *Text, n int64, hour uint32) (k kind, r *recent, e *text) {
	r = t.recent(x.Like, hour)
	if int64(hour)-int64(r.Hour) >= 24 {
		r.Seen = 0
	}
	r.Hour = max(r.Hour, hour)
	r.Seen++
	r.fade(dayOf(hour))
	if r.blamed() {
		return mass, r, nil
	}
	if e = t.learnt(x.Like); e != nil && e.Days >= knownAfter && float32(e.Sent+n) <= e.Room && x.Whole && t.leadsToKnown(&x.Hosts) {
		e.Sent += n
		return known, r, e
	}
	if r.Seen > massAfter {
		return mass, r, nil
	}
	return single, r, nil
}

func (t *texts) leadsToKnown(hosts *Hosts) bool {
	for _, h := range hosts.all() {
		if e := t.host(h); e == nil || e.Days < knownAfter {
			return false
		}
	}
	return !hosts.over
}

func (t *texts) host(hash uint32) *host {
	for i := range t.Hosts {
		if t.Hosts[i].Hash == hash {
			return &t.Hosts[i]
		}
	}
	return nil
}

// passed counts a message that went out.
func (t *texts) passed(x *Text, n int64, day uint16) {
	if r := t.find(x.Like); r != nil {
		r.Passed++
		r.Reached += uint32(n)
	}
	for _, h := range x.Hosts.all() {
		e := t.host(h)
		if e == nil {
			e = t.roomForHost(day)
			*e = host{Hash: h}
		}
		e.Today = min(e.Today, 254) + 1
	}
}

// roomForHost is the place of the host with the fewest days.
func (t *texts) roomForHost(day uint16) *host {
	worth := func(e *host) int { return worth(e.Days, e.Last, day)*256 + int(e.Today) }
	victim := &t.Hosts[0]
	for i := range t.Hosts {
		if e := &t.Hosts[i]; worth(e) < worth(victim) {
			victim = e
		}
	}
	return victim
}

// find is the recent text that is most like l, nil if none is alike.
func (t *texts) find(l Likeness) (found *recent) {
	least := 0
	for i := range t.Recent {
		if r := &t.Recent[i]; r.Like.Alike(l) && r.Like != (Likeness{}) {
			if n := r.Like.distance(l); found == nil || n < least {
				found, least = r, n
			}
		}
	}
	return found
}

// recent finds the text or makes room for it: the oldest goes, and one that is
// blamed only when all are.
func (t *texts) recent(l Likeness, hour uint32) *recent {
	if r := t.find(l); r != nil {
		return r
	}
	victim := &t.Recent[0]
	for i := range t.Recent {
		r := &t.Recent[i]
		if victim.blamed() && !r.blamed() || r.blamed() == victim.blamed() && r.before(victim) {
			victim = r
		}
	}
	*victim = recent{Like: l, Hour: hour}
	return victim
}

func (r *recent) before(o *recent) bool {
	return r.Hour < o.Hour || r.Hour == o.Hour && r.Seen < o.Seen
}

// learn takes over what passed on a day that is over, and gives the texts that
// are known from now on.
func (t *texts) learn(day uint16, o *Options) (news []text) {
	for i := range t.Recent {
		r := &t.Recent[i]
		if r.Like != (Likeness{}) && !t.nearBlamed(r.Like) && (r.Passed >= learntAfter || r.Passed > 0 && t.learnt(r.Like) != nil) {
			t.teach(r.Like, day, 1).today += float32(r.Reached)
		}
		r.Passed, r.Reached = 0, 0
	}
	for i := range t.Known {
		if e := &t.Known[i]; e.grow(day, o) {
			news = append(news, *e)
		}
	}
	for i := range t.Hosts {
		e := &t.Hosts[i]
		if e.Today >= learntAfter || e.Today > 0 && e.Days > 0 {
			e.Days, e.Last = min(e.Days, 200)+1, day
		}
		e.Today = 0
	}
	return news
}

// grow ends the day of a text: its room follows what it reached, and grows by no
// more than a day's growth beyond that. It tells whether the text is known for
// the first time.
func (e *text) grow(day uint16, o *Options) bool {
	e.Sent = 0
	if e.Days == 0 || e.Last != day {
		return false
	}
	e.Most = max(e.Most*fade, e.today)
	forDay, _ := stretch(known)
	e.Room = max(e.today, min(float32(forDay)*e.Most, max(e.Room, spare)*float32(o.Growth)))
	e.today = 0
	return e.Days == knownAfter
}

// nearBlamed tells whether a text resembles one that is blamed, be it less than
// texts that count as alike: what is left of an attack teaches nothing.
func (t *texts) nearBlamed(l Likeness) bool {
	for i := range t.Recent {
		if r := &t.Recent[i]; r.blamed() && r.Like.within(l, alikeBits+8) {
			return true
		}
	}
	return false
}

func (t *texts) learnt(l Likeness) *text {
	for i := range t.Known {
		if e := &t.Known[i]; e.Days > 0 && e.Like.Alike(l) {
			return e
		}
	}
	return nil
}

// teach notes that a text passed on so many days, the last of which is day, which
// counts once. It takes the place of one long unused, else of that with the
// fewest days.
func (t *texts) teach(l Likeness, day uint16, days uint8) *text {
	e := t.learnt(l)
	if e == nil {
		e = &t.Known[0]
		for i := range t.Known {
			if o := &t.Known[i]; worth(o.Days, o.Last, day) < worth(e.Days, e.Last, day) {
				e = o
			}
		}
		*e = text{Like: l}
	}
	if e.Last != day || days > 1 {
		e.Days, e.Last = min(e.Days, 200)+days, day
	}
	return e
}

// teachHost makes hosts known.
func (t *texts) teachHosts(hosts []uint32, day uint16) {
	for _, h := range hosts {
		e := t.host(h)
		if e == nil {
			e = t.roomForHost(day)
			*e = host{Hash: h}
		}
		e.Days, e.Last = max(e.Days, knownAfter), day
	}
}

// allow makes a text known, with room for what its like had of late.
func (t *texts) allow(l Likeness, day uint16, n float32) {
	e := t.teach(l, day, knownAfter+1)
	forDay, _ := stretch(known)
	e.Most = max(e.Most, n)
	e.Room = max(e.Room, float32(forDay)*n)
}

// worth of what was seen on so many days, the last time on last.
func worth(days uint8, last, day uint16) int {
	age := int(day) - int(last)
	if days == 0 || age > forgotAfter {
		return -1
	}
	return int(days)*forgotAfter - age
}

// back puts the clock of the texts back to an hour.
func (t *texts) back(hour uint32) {
	day := dayOf(hour)
	for i := range t.Known {
		t.Known[i].Last = min(t.Known[i].Last, day)
	}
	for i := range t.Recent {
		t.Recent[i].Hour = min(t.Recent[i].Hour, hour)
		t.Recent[i].Since = min(t.Recent[i].Since, day)
	}
	for i := range t.Hosts {
		t.Hosts[i].Last = min(t.Hosts[i].Last, day)
	}
}
