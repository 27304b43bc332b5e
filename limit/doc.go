// Package limit counts what passes: rate limits of any key ([Limiter]), usage in
// sliding windows ([Usage]) and which recipients a tenant has mailed before
// ([Known]).
//
// A limit is GCRA, the generic cell rate algorithm: one instant for each key,
// the theoretical arrival time. A burst may pass at once, then as many in a
// period as the rate says, and the count is exact whatever runs at once. What a
// message needs is reserved together, all or nothing, before it is accepted, and
// given back when it is not.
//
// The instants live in memory and are written to the store each second, those
// that changed as one row, so a crash forgives at most what passed in the last
// second. A key whose bucket is
// full again is forgotten; the number of keys is bounded all the same, and beyond
// the bound those nearest to being full are dropped first.
package limit
