package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"behalf/mail"
)

// All keys of a spool begin with its partition p (2 bytes, below
// [maxPartition], so that they never mix with the shared keys, which begin
// with a letter) and one letter for the table. Numbers are big-endian, times
// are milliseconds in 6 bytes, and id is the part of a message id after its
// partition (tenant 4, time 6, random 4).
//
//	p m id                      immutable facts (mail.Message)
//	p r id k                    recipients 64k … 64k+63; k=0 begins with the head
//	p d lane 0 T next id' k     the due index: empty, only while queued; id' is id without its tenant
//	p x class when id           the one timer of a message; class 0 waits for the dispatcher, 1 for retention
//	p f seq                     the event feed
//	p n                         first event number that is not reserved
//	p h                         counts of what is stored, and the time of the youngest id
//	p a when                    queued messages that became due in that 10 s
//	p c name                    cursor of a follower
//	p l name                    low-water mark of a table
//	i T hash                    idempotency keys (shared)

// maxPartition is the first number that is not a partition: 0x2000 keeps the
// first byte of a key below every letter.
const maxPartition = 0x2000

const (
	tableMessage    = 'm'
	tableRecipients = 'r'
	tableDue        = 'd'
	tableTimer      = 'x'
	tableFeed       = 'f'
	tableNext       = 'n'
	tableCounts     = 'h'
	tableAges       = 'a'
	tableCursor     = 'c'
	tableMark       = 'l'
)

// maxLane bounds a lane so that every key stays far below kv.MaxKey.
const maxLane = 600

// part makes the keys of one partition.
type part uint16

// table begins a key, with room for so many octets more.
func (p part) table(letter byte, room int) []byte {
	return p.append(make([]byte, 0, 3+room), letter)
}

// append begins a key behind b. The functions that append are for those who
// make many keys: they use one buffer.
func (p part) append(b []byte, letter byte) []byte {
	return append(b, byte(p>>8), byte(p), letter)
}

func keyMessage(id mail.ID) []byte { return appendKeyMessage(make([]byte, 0, 17), id) }

func appendKeyMessage(b []byte, id mail.ID) []byte {
	return append(part(id.Partition()).append(b, tableMessage), id[2:]...)
}

func keyRecipients(id mail.ID, chunk int) []byte {
	return appendKeyRecipients(make([]byte, 0, 19), id, chunk)
}

func appendKeyRecipients(b []byte, id mail.ID, chunk int) []byte {
	b = append(part(id.Partition()).append(b, tableRecipients), id[2:]...)
	return binary.BigEndian.AppendUint16(b, uint16(chunk))
}

// idOf reads the id in a key of the tables m and r.
func idOf(key []byte) (mail.ID, bool) {
	var id mail.ID
	if len(key) < 17 {
		return id, false
	}
	copy(id[:2], key)
	copy(id[2:], key[3:17])
	return id, true
}

func keyQueue(p part, q Queue) []byte {
	return appendKeyQueue(make([]byte, 0, 26+len(q.Lane)), p, q)
}

func appendKeyQueue(b []byte, p part, q Queue) []byte {
	b = append(p.append(b, tableDue), q.Lane...)
	b = append(b, 0)
	return binary.BigEndian.AppendUint32(b, uint32(q.Tenant))
}

func keyDue(id mail.ID, lane mail.Lane, next int64, chunk int) []byte {
	return appendKeyDue(make([]byte, 0, 26+len(lane)), id, lane, next, chunk)
}

func appendKeyDue(b []byte, id mail.ID, lane mail.Lane, next int64, chunk int) []byte {
	b = appendKeyQueue(b, part(id.Partition()), Queue{lane, id.Tenant()})
	b = appendMillis(b, next)
	b = append(b, id[6:]...)
	return binary.BigEndian.AppendUint16(b, uint16(chunk))
}

// parseDue reads a key of the due index.
func parseDue(key []byte) (Due, error) {
	end := -1
	if len(key) > 3 {
		end = bytes.IndexByte(key[3:], 0)
	}
	if end < 0 || len(key) != 3+end+1+4+6+10+2 {
		return Due{}, fmt.Errorf("spool: malformed key %x in the due index", key)
	}
	tail := key[3+end+1:]
	var id mail.ID
	copy(id[:2], key)
	copy(id[2:6], tail)
	copy(id[6:], tail[10:20])
	return Due{
		Queue: Queue{mail.Lane(key[3 : 3+end]), mail.TenantID(binary.BigEndian.Uint32(tail))},
		At:    millisTime(readMillis(tail[4:])),
		ID:    id,
		Chunk: int(binary.BigEndian.Uint16(tail[20:])),
	}, nil
}

func (d Due) key() []byte { return keyDue(d.ID, d.Queue.Lane, d.At.UnixMilli(), d.Chunk) }

func keyTimers(p part, class byte) []byte { return append(p.table(tableTimer, 1), class) }

func keyTimer(id mail.ID, class byte, when int64) []byte {
	return appendKeyTimer(make([]byte, 0, 24), id, class, when)
}

func appendKeyTimer(b []byte, id mail.ID, class byte, when int64) []byte {
	b = append(part(id.Partition()).append(b, tableTimer), class)
	return append(appendMillis(b, when), id[2:]...)
}

// parseTimer reads a key of the timer index and its value.
func parseTimer(key, value []byte) (Timer, error) {
	if len(key) != 3+1+6+14 || len(value) != 1 {
		return Timer{}, fmt.Errorf("spool: malformed timer %x = %x", key, value)
	}
	var id mail.ID
	copy(id[:2], key)
	copy(id[2:], key[10:])
	return Timer{At: millisTime(readMillis(key[4:])), ID: id, What: TimerKind(value[0])}, nil
}

func keyEvent(p part, seq uint64) []byte {
	return appendKeyEvent(make([]byte, 0, 11), p, seq)
}

func appendKeyEvent(b []byte, p part, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(p.append(b, tableFeed), seq)
}

// seqOf reads the event number in a key of the feed.
func seqOf(key []byte) uint64 {
	if len(key) != 11 {
		return 0
	}
	return binary.BigEndian.Uint64(key[3:])
}

func keyNext(p part) []byte   { return p.table(tableNext, 0) }
func keyCounts(p part) []byte { return p.table(tableCounts, 0) }

func keyAge(p part, bucket int64) []byte {
	return appendKeyAge(make([]byte, 0, 11), p, bucket)
}

func appendKeyAge(b []byte, p part, bucket int64) []byte {
	return binary.BigEndian.AppendUint64(p.append(b, tableAges), uint64(bucket))
}

func keyCursor(p part, follower string) []byte {
	return append(p.table(tableCursor, len(follower)), follower...)
}

func keyMark(p part, name string) []byte {
	return append(p.table(tableMark, len(name)), name...)
}

func keyIdempotency(t mail.TenantID, hash [32]byte) []byte {
	b := make([]byte, 1, 37)
	b[0] = 'i'
	return append(binary.BigEndian.AppendUint32(b, uint32(t)), hash[:]...)
}

// after is the smallest key that sorts behind key.
func after(key []byte) []byte { return append(key, 0) }

func appendMillis(b []byte, ms int64) []byte {
	ms = max(ms, 0)
	return append(b, byte(ms>>40), byte(ms>>32), byte(ms>>24), byte(ms>>16), byte(ms>>8), byte(ms))
}

func readMillis(b []byte) int64 {
	return int64(b[0])<<40 | int64(b[1])<<32 | int64(binary.BigEndian.Uint32(b[2:]))
}

func millisTime(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// millis is the time in milliseconds; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
