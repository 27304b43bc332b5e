package main

import (
	"net/url"

	"github.com/spf13/cobra"
)

var limitColumns = []column{
	{"RULE", "rule"}, {"KEY", "key"}, {"COUNT", "count"}, {"USED", "used"}, {"BURST", "burst"}, {"RATE", "rate"}, {"PER", "per"}, {"OVER", "over"},
	{"BINDS", "binding"}, {"RESET", "reset"}, {"REFUSED", "refused"}, {"PACED", "paced"}, {"HELD", "held"},
}

func limitsCommand(f *clientFlags) *cobra.Command {
	var o output
	c := &cobra.Command{Use: "limits NAME", Short: "Show the limits that hold for a tenant, the most pressing first", Args: exactArgs(1),
		Long: "Show the limits of rules that hold for a tenant and others that its mail met since the server started, the most pressing first; how often they refused, delayed and held is counted since then. What binds at delivery is in \"queue list\".",
		RunE: func(cmd *cobra.Command, args []string) error {
			return showList(cmd, f, &o, "/v1/tenants/"+url.PathEscape(args[0])+"/limits", nil, 0, limitColumns)
		}}
	o.add(c)
	return c
}
