// Package habit knows what is usual for a tenant's credential and tells how far
// a message is from it: how many new recipients a day and an hour, how many
// messages, at which hours, and which texts.
//
// New recipients are counted apart by the text of the message ([Likeness]): of a
// text known from earlier days, of one that is like no other, and of one that
// many recent messages share. Whoever sends one text to very many spends the
// room of that kind alone, so the others go on at their usual pace. What has
// gone out in 24 hours, and what is being decided at this moment, counts against
// [Options.Floor], which is free to everybody, or against what is usual, if that
// is more.
//
// Texts are looked at in mail to new recipients alone: it is their room that is
// divided, and nobody makes a text known by mail to those who know him.
//
// Only what passed teaches, only when its day is over, and no day raises what is
// usual by more than [Options.Growth]. What was held teaches when somebody says
// that it was usual ([Habits.Close]).
package habit
