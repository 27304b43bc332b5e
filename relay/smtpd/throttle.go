package smtpd

import "behalf/internal/throttle"

// Throttle slows down the guessing of passwords; doors may share one.
type Throttle = throttle.Throttle

// NewThrottle makes an empty Throttle.
func NewThrottle() *Throttle { return throttle.New() }
