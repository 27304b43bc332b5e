package render

import (
	"context"
	"io"
	"time"

	"behalf/mail"
	"behalf/mail/sign"
)

type Input struct {
	Message *mail.Message
	Header  []byte      // the client's, with the empty line; nil: read from Body
	Body    io.ReaderAt // the whole stored message; Memory when it is in memory
	Hop     *mail.Hop
	Keys    []sign.Key
	Exclude []string         // fields the hop rewrites: not signed
	Now     func() time.Time // of the signatures; nil: time.Now
}

// Memory is a stored message in memory; it is written without a copy.
type Memory []byte

func (m Memory) ReadAt(p []byte, off int64) (int, error) { return 0, io.EOF }

type Caps struct{ EightBitMIME, SMTPUTF8, BinaryMIME bool }

type Renderer struct{}

func New(in Input) *Renderer                                           { return &Renderer{} }
func (r *Renderer) For(ctx context.Context, c Caps) (*Rendered, error) { return &Rendered{}, nil }

type Rendered struct{}

func (r *Rendered) Size() int64                        { return 0 }
func (r *Rendered) EightBit() bool                     { return false }
func (r *Rendered) UTF8() bool                         { return false }
func (r *Rendered) Binary() bool                       { return false }
func (r *Rendered) Prepare(ctx context.Context) error  { return nil }
func (r *Rendered) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func (r *Rendered) Signed() []string                   { return nil }
