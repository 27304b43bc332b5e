package relay

import (
	"maps"
	"slices"
)

// named are the recipients that a client asked for, by their keys, and whether
// they were taken. Most messages have few: those need no map.
type named struct {
	n   int
	few [4]struct {
		key   string
		taken bool
	}
	many map[string]bool // all of them, once there are more
}

// taken tells whether a recipient was asked for before and taken.
func (s *named) taken(key string) bool {
	if s.many != nil {
		return s.many[key]
	}
	for i := range s.few[:s.n] {
		if s.few[i].key == key {
			return s.few[i].taken
		}
	}
	return false
}

// note notes that a recipient was asked for.
func (s *named) note(key string, taken bool) {
	if s.many != nil {
		s.many[key] = taken
		return
	}
	for i := range s.few[:s.n] {
		if s.few[i].key == key {
			s.few[i].taken = taken
			return
		}
	}
	if s.n < len(s.few) {
		s.few[s.n].key, s.few[s.n].taken = key, taken
		s.n++
		return
	}
	s.many = make(map[string]bool, 4*len(s.few))
	for _, o := range s.few {
		s.many[o.key] = o.taken
	}
	s.many[key] = taken
}

// keys are all of them, in order.
func (s *named) keys() []string {
	if s.many != nil {
		return slices.Sorted(maps.Keys(s.many))
	}
	var keys []string
	for i := range s.few[:s.n] {
		keys = append(keys, s.few[i].key)
	}
	slices.Sort(keys)
	return keys
}
