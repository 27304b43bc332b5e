"""Reads the delivery status notification on the standard input with Python's
email package and prints what it says as one JSON object."""
import email
import email.policy
import json
import sys

m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
parts = list(m.iter_parts()) if m.is_multipart() else []
status = next((p for p in parts if p.get_content_type() == "message/delivery-status"), None)
groups = [{k.lower(): str(v) for k, v in g.items()} for g in status.get_payload()] if status else []
defects = [type(d).__name__ for part in m.walk() for d in part.defects]
returned = parts[2] if len(parts) > 2 else None
inner = returned.get_payload(0) if returned and returned.get_content_type() == "message/rfc822" else returned and email.message_from_string(returned.get_content() if returned.get_content_maintype() == "text" else "", policy=email.policy.default)
print(json.dumps({
    "type": m.get_content_type(), "report": m.get_content_type() == "multipart/report" and m.get_param("report-type"),
    "from": str(m["From"]), "to": str(m["To"]), "subject": str(m["Subject"]), "auto": str(m["Auto-Submitted"]), "signed": m["DKIM-Signature"] is not None,
    "parts": [p.get_content_type() for p in parts], "text": parts[0].get_content() if parts else "",
    "message": groups[0] if groups else {}, "recipients": groups[1:],
    "returned": {"type": returned.get_content_type(), "subject": str(inner["Subject"]) if inner else ""} if returned else None, "defects": defects,
}))
