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
	forgotAfter = 60 // days without a message
)

// text is a text of earlier days.
type text struct {
	Like Likeness `cbor:"1,keyasint"`
	Days uint8    `cbor:"2,keyasint,omitempty"` // on which it passed
	Last uint16   `cbor:"3,keyasint,omitempty"` // day on which it passed last
}

// recent is a text of these hours.
type recent struct {
	Like   Likeness `cbor:"1,keyasint"`
	Hour   uint32   `cbor:"2,keyasint"`           // of the last message
	Seen   uint32   `cbor:"3,keyasint,omitempty"` // messages, since there was none for a day
	Passed uint32   `cbor:"4,keyasint,omitempty"` // today
	Held   uint32   `cbor:"5,keyasint,omitempty"` // while it was not known, and not released
}

// blamed tells whether mail of this text is held and nobody has said that it is
// usual.
func (r *recent) blamed() bool { return r.Held >= blamedAfter }

// texts are what a credential writes, in bounded room.
type texts struct {
	Known  [32]text   `cbor:"1,keyasint"`
	Recent [16]recent `cbor:"2,keyasint"`
}

// note counts a message of the text and says of which kind it is, and how many
// were like it of late.
func (t *texts) note(l Likeness, hour uint32) (k kind, r *recent) {
	r = t.recent(l, hour)
	if hour-r.Hour >= 24 {
		r.Seen = 0
	}
	r.Hour = hour
	r.Seen++
	if r.blamed() {
		return mass, r
	}
	for i := range t.Known {
		if e := &t.Known[i]; e.Days >= knownAfter && e.Like.Alike(l) {
			return known, r
		}
	}
	if r.Seen > massAfter {
		return mass, r
	}
	return single, r
}

// find is the recent text that is most like l, nil if none is alike.
func (t *texts) find(l Likeness) (found *recent) {
	least := alikeBits + 1
	for i := range t.Recent {
		if r := &t.Recent[i]; r.Like != 0 {
			if n := r.Like.distance(l); n < least {
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

// learn takes over what passed on a day that is over.
func (t *texts) learn(day uint16) {
	for i := range t.Recent {
		r := &t.Recent[i]
		if r.Like != 0 && !t.nearBlamed(r.Like) && (r.Passed >= learntAfter || r.Passed > 0 && t.learnt(r.Like) != nil) {
			t.teach(r.Like, day, 1)
		}
		r.Passed = 0
	}
}

// nearBlamed tells whether a text resembles one that is blamed, be it less than
// texts that count as alike: what is left of an attack teaches nothing.
func (t *texts) nearBlamed(l Likeness) bool {
	for i := range t.Recent {
		if r := &t.Recent[i]; r.blamed() && r.Like.distance(l) <= alikeBits+8 {
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

// teach notes that a text passed on so many days, the last of which is day. It
// takes the place of one long unused, else of that with the fewest days.
func (t *texts) teach(l Likeness, day uint16, days uint8) {
	e := t.learnt(l)
	if e == nil {
		e = &t.Known[0]
		for i := range t.Known {
			if o := &t.Known[i]; o.worth(day) < e.worth(day) {
				e = o
			}
		}
		*e = text{Like: l}
	}
	e.Days, e.Last = min(e.Days, 200)+days, day
}

func (e *text) worth(day uint16) int {
	age := int(day) - int(e.Last)
	if e.Days == 0 || age > forgotAfter {
		return -1
	}
	return int(e.Days)*forgotAfter - age
}
