# Several countries want to see who is behind business mail. The body is the
# client's and stays untouched; what the tenant's country asks for goes into a
# header field, and a tag says which country's rules were applied. Broadcast mail
# of a country without an entry is not sent before somebody has thought of it.
package behalf.submission.message

country := object.get(input.tenant.labels, "country", "")

rewrite contains {"rule": "legal-notice", "op": "add_header", "name": "X-Legal-Notice", "value": data.legal[country]}

tag contains {"rule": "legal-notice", "value": sprintf("law-%s", [country])} if data.legal[country]

hold contains {"rule": "legal-missing", "reason": sprintf("no legal notice is known for country %q; an administrator adds it", [country])} if {
	input.stream == "broadcast"
	not data.legal[country]
}
