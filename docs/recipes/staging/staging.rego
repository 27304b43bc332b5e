# Mail of tenants that test is marked, and tagged for lists and metrics.
package behalf.submission.message

rewrite contains {"rule": "staging", "op": "subject_prefix", "value": "[TEST]"} if testing

rewrite contains {"rule": "staging-header", "op": "add_header", "name": "X-Environment", "value": "staging"} if testing

tag contains {"rule": "staging", "value": "staging"} if testing

warn contains {"rule": "staging", "reason": "this account is in test mode; the subject is marked"} if testing

testing if input.tenant.labels.environment == "staging"
