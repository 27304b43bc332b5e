// Package policies holds the policies that are in force where the administrator
// gives none. Each file is one idea, meant to be read in a minute, copied and
// changed; next to it stand its tests, which "behalf policy test" runs.
package policies

import "embed"

// FS is the folder: Rego files with their tests, and the data they look up.
//
//go:embed *.rego data.yaml
var FS embed.FS
