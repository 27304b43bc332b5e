// Package relay takes a message from the doors to the spool.
package relay
