package policies

import (
	"strings"
	"testing"

	"behalf/policy"
)

// TestManyAttachments: what a message can hold at most, the default policies
// decide about without an error.
func TestManyAttachments(t *testing.T) {
	e, err := policy.New(t.Context(), policy.Options{Defaults: FS, Deadline: 1e10})
	if err != nil {
		t.Fatal(err)
	}
	for name, filename := range map[string]string{"dots": strings.Repeat(".", 255), "letters": strings.Repeat("É", 127), "names": strings.Repeat("a.", 126) + "txt"} {
		in := &policy.MessageInput{SenderInput: policy.SenderInput{Tenant: &policy.Tenant{ID: 1, Name: "acme"}}}
		in.Identity.Verified, in.Message.Size = true, 5<<20
		for range 1000 {
			in.Message.Attachments = append(in.Message.Attachments, policy.Attachment{Filename: filename, ContentType: "application/" + strings.Repeat("x", 243), Size: 1})
		}
		_, err := e.Message(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
