package limit

// Warning says that a limit has come to a share of what it allows.
type Warning struct {
	Ask     int // index in asks
	Percent int // one of thresholds
}

// thresholds are the shares at which a limit is warned of, in percent. The last
// is passed by the request that does not pass at once.
var thresholds = [...]int{75, 90, 100}

// leastWarned is how many a limit must allow at once for a word before it is
// reached: three quarters of three are nothing to warn of.
const leastWarned = 10

// A threshold is warned of once a window. Two keys beside the limit's own say
// what was warned of, so that this is as exact, as bounded and as lasting as the
// limit itself. The one is alive for one period from the warning on; the other
// as long as the bucket, as it is then, stays above the threshold, and is
// lengthened while it does. Only when both have run out the threshold is warned
// of again.

// warn finds the thresholds that asks have passed. What a granted request was
// warned of belongs to its reservation, so that one that is given back leaves
// the warning to another. The shards are locked.
func (l *Limiter) warn(now int64, asks []Ask, v *Verdict, r *Reservation) {
	for i := range asks {
		a := &asks[i]
		if a.Wait == 0 && !v.OK {
			continue // another limit refused; nothing was taken from this one
		}
		tat := max(l.tat(a.Key), now)
		warned := false
		for k := len(thresholds) - 1; k >= 0; k-- {
			percent := thresholds[k]
			until := a.above(tat, percent)
			switch {
			case percent == 100 && a.Wait == 0:
				continue
			case percent == 100 && a.Wait == Never:
				continue // not the limit is reached, the request is too large for it
			case percent == 100:
				until = max(until, now+int64(a.Wait))
			case until <= now || a.Burst < leastWarned:
				continue
			}
			if !l.fires(k, now, until, a, v.OK, r) {
				continue
			}
			if !warned { // the highest speaks for those below it
				v.Warnings = append(v.Warnings, Warning{i, percent})
			}
			warned = true
		}
	}
}

// fires tells whether threshold k is passed for the first time in its window, and
// notes that it was.
func (l *Limiter) fires(k int, now, until int64, a *Ask, taken bool, r *Reservation) bool {
	spaced, above := a.Key.apart(uint8(2*k+1)), a.Key.apart(uint8(2*k+2))
	wasSpaced, wasAbove := l.tat(spaced), l.tat(above)
	if wasAbove > now {
		if until > wasAbove {
			l.set(above, until, now)
		}
		return false
	}
	if wasSpaced > now {
		return false
	}
	next := now + int64(min(a.Per, maxSpan))
	l.set(spaced, next, now)
	l.set(above, until, now)
	if taken {
		r.parts = append(r.parts, part{spaced, wasSpaced, next, true}, part{above, wasAbove, until, true})
	}
	return true
}
