package spool

import (
	"sync"

	"behalf/mail"
)

// coming are the messages between their body and their commit.
type coming struct {
	mu  sync.Mutex
	ids map[mail.ID]struct{}
}

func (c *coming) add(id mail.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[id] = struct{}{}
}

func (c *coming) remove(id mail.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ids, id)
}

func (c *coming) has(id mail.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.ids[id]
	return ok
}
