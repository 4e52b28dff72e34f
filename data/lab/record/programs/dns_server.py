"""A DNS server over UDP and TCP. Names of two labels or more that end in example, example.org, example.net or example.com exist
unless their first label looks generated. Arguments: address, seed."""

import random
import sys
import time

from dnslib import AAAA, MX, QTYPE, RCODE, RR, TXT, A
from dnslib.server import BaseResolver, DNSServer

address, seed = sys.argv[1:]


class Resolver(BaseResolver):
    def resolve(self, request, handler):
        reply = request.reply()
        name = str(request.q.qname).rstrip(".")
        rng = random.Random(f"{seed} {name}")
        if not name.endswith(("example", "example.org", "example.net", "example.com")):
            reply.header.rcode = RCODE.NXDOMAIN
            return reply
        kind, ttl = QTYPE[request.q.qtype], rng.choice([30, 300, 3600])
        for _ in range(rng.randrange(1, 4)):
            if kind == "A":
                reply.add_answer(RR(name, QTYPE.A, rdata=A(f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"), ttl=ttl))
            elif kind == "AAAA":
                reply.add_answer(RR(name, QTYPE.AAAA, rdata=AAAA(f"fd00::{rng.getrandbits(16):x}:{rng.getrandbits(16):x}"), ttl=ttl))
            elif kind == "MX":
                reply.add_answer(RR(name, QTYPE.MX, rdata=MX(f"mail{rng.randrange(9)}.{name}", rng.randrange(50)), ttl=ttl))
            elif kind == "TXT":
                reply.add_answer(RR(name, QTYPE.TXT, rdata=TXT(f"v=spf1 ip4:10.0.0.{rng.randrange(256)} -all"), ttl=ttl))
        return reply


servers = [DNSServer(Resolver(), address=address, port=53, tcp=tcp, logger=type("Quiet", (), {"__getattr__": lambda self, name: lambda *arguments: None})()) for tcp in (False, True)]
for server in servers:
    server.start_thread()
while True:
    time.sleep(60)
