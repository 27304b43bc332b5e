package badger

import (
	"fmt"

	"behalf/internal/kv"
)

// engine is the Store as the committer sees it.
type engine struct{ s *Store }

// Hold implements kv.Engine.
func (e engine) Hold() kv.Base {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.s.take()
}

// Apply implements kv.Engine: one record of the log, and a table in memory.
func (e engine) Apply(rows []kv.Row, needs []kv.Durable) error {
	s := e.s
	if s.log.Full() || s.turn.Load() && s.log.Used() > 0 {
		if err := s.nextFile(); err != nil {
			return err
		}
	}
	commit, err := s.log.Append(rows, needs)
	if err != nil {
		return fmt.Errorf("commit %d rows: %w", len(rows), err)
	}
	s.pace.hurried.Store(s.log.Used() > s.opts.logSize/2)
	// What the rows need was being synced meanwhile. Until it is there, this
	// record is the last, which the next start asks about.
	if err := kv.Await(needs); err != nil {
		return err
	}
	s.mu.Lock()
	active, oldest := s.active, s.oldest()
	s.mu.Unlock()
	active.put(rows, commit, oldest)
	deleted := 0
	for i := range rows {
		if rows[i].Deleted {
			deleted++
		}
	}
	s.mu.Lock()
	s.commit = commit
	s.supersede()
	s.mu.Unlock()
	s.churn.rows.Add(int64(len(rows)))
	s.churn.waiting.Add(int64(deleted))
	return nil
}

// nextFile begins the next file of the log and hands the table of the one
// before to the flusher. If that still has one, it waits: there are never more
// than two tables.
func (s *Store) nextFile() error {
	select {
	case <-s.flusher.free:
	case <-s.Failed():
		return s.Err()
	}
	if err := s.log.Next(); err != nil {
		return err
	}
	s.turn.Store(false)
	s.churn.waiting.Store(0)
	s.mu.Lock()
	frozen := s.active
	s.frozen, s.active = frozen, newTable(s.log.File())
	s.supersede()
	s.mu.Unlock()
	s.flusher.tables <- frozen
	return nil
}
