"""Verifies every DKIM signature of the message on the standard input with
dkimpy, and SPF of the envelope with pyspf; prints one JSON object.

usage: verify_dkimpy.py DNSHOST DNSPORT CLIENTIP HELO MAILFROM
"""
import json
import re
import sys

import dkim
import dns.resolver
import spf

host, port, client, helo, mail_from = sys.argv[1:]
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = [host], int(port)


def txt(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    try:
        return b"".join(next(iter(resolver.resolve(name, "TXT"))).strings)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None


def lookup(name, qtype, strict=True, timeout=20):
    """What pyspf wants of a resolver."""
    found = []
    try:
        for r in resolver.resolve(name, qtype):
            value = {
                "TXT": lambda: tuple(r.strings), "A": lambda: r.address, "AAAA": lambda: r.address,
                "MX": lambda: (r.preference, r.exchange.to_text(True)), "PTR": lambda: r.target.to_text(True),
            }.get(qtype, r.to_text)()
            found.append(((name, qtype), value))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        pass
    return found


spf.DNSLookup = lookup
message = sys.stdin.buffer.read()
signatures = []
for i, (name, value) in enumerate((n, v) for n, v in dkim.rfc822_parse(message)[0] if n.lower() == b"dkim-signature"):
    tags = {k: v for k, v in re.findall(r"([a-z]+)=([^;]*)", re.sub(r"\s", "", value.decode()))}
    ok = dkim.DKIM(message, minkey=1024).verify(idx=i, dnsfunc=txt)
    signatures.append({"domain": tags["d"], "selector": tags["s"], "algorithm": tags["a"], "pass": bool(ok)})
result, why = spf.check2(i=client, s=mail_from, h=helo)
print(json.dumps({"dkim": signatures, "spf": result, "spf_domain": mail_from.rpartition("@")[2], "why": why}))
