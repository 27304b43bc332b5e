package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The packages that are asked, one a stage: those of a submission, and those of
// mail that arrives.
const (
	PackageSender    = "behalf.submission.sender"    // at MAIL
	PackageRecipient = "behalf.submission.recipient" // at each RCPT
	PackageMessage   = "behalf.submission.message"   // after DATA

	PackageInboundConnect   = "behalf.inbound.connect"   // after EHLO
	PackageInboundRecipient = "behalf.inbound.recipient" // at each RCPT
	PackageInboundMessage   = "behalf.inbound.message"   // after DATA
)

// stage is one moment at which policy is asked.
type stage struct {
	name  string       // the package
	input func() input // an empty input of the stage's type
}

// input is what a stage is asked about.
type input interface {
	// term builds the value that Rego sees, with at least the fields of f.
	term(f fields) *ast.Term
	// stamp fills in a time that is missing.
	stamp()
}

const (
	stageSender = iota
	stageRecipient
	stageMessage
	stageInboundConnect
	stageInboundRecipient
	stageInboundMessage
	stageCount
)

// stages are all of them, by index.
func stages() [stageCount]stage {
	return [stageCount]stage{
		{PackageSender, func() input { return new(SenderInput) }},
		{PackageRecipient, func() input { return new(RecipientInput) }},
		{PackageMessage, func() input { return new(MessageInput) }},
		{PackageInboundConnect, func() input { return new(InboundConnectInput) }},
		{PackageInboundRecipient, func() input { return new(InboundRecipientInput) }},
		{PackageInboundMessage, func() input { return new(InboundMessageInput) }},
	}
}

// Packages are the names of all stages' packages, in the order they are asked.
func Packages() []string {
	names := make([]string, 0, stageCount)
	for _, s := range stages() {
		names = append(names, s.name)
	}
	return names
}

// stageOf finds the stage whose package has this path, or -1.
func stageOf(pkg string) int {
	all := stages()
	return slices.IndexFunc(all[:], func(s stage) bool { return s.name == pkg })
}

// inbound reports whether a stage's package is about mail that arrives.
func inbound(pkg string) bool { return strings.HasPrefix(pkg, "behalf.inbound.") }

// reserved reports whether only a stage may have this package name.
func reserved(pkg string) bool {
	return strings.HasPrefix(pkg+".", "behalf.submission.") || strings.HasPrefix(pkg+".", "behalf.inbound.")
}

// packagePath is a module's package without the leading "data.".
func packagePath(m *ast.Module) string {
	return strings.TrimPrefix(m.Package.Path.String(), "data.")
}
