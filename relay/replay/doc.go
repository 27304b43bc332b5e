// Package replay asks a policy set what others were asked, as the journal
// recorded it, and tells what it would have decided differently.
//
// A replay counts nothing, sends nothing and changes nothing. It asks in one
// goroutine that gives way to live traffic, and holds the same memory however
// much was recorded. Limits are simulated: the obligations of both sides run
// through fresh limiters at the recorded times, so that both begin alike.
package replay
