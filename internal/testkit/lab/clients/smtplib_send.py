"""Submits the message on the standard input with Python's smtplib.

usage: smtplib_send.py starttls|tls HOST PORT CAFILE USER PASSWORD FROM TO
"""
import smtplib
import ssl
import sys

how, host, port, cafile, user, password, sender, recipient = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
if how == "tls":
    client = smtplib.SMTP_SSL(host, int(port), context=context, timeout=20)
else:
    client = smtplib.SMTP(host, int(port), timeout=20)
    client.starttls(context=context)
client.login(user, password)
client.ehlo_or_helo_if_needed()
code, reply = client.mail(sender)
assert code == 250, reply
code, reply = client.rcpt(recipient)
assert code == 250, reply
code, reply = client.data(sys.stdin.buffer.read())
assert code == 250, reply
print(reply.decode())
client.quit()
