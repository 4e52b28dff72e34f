"""Looking names up with dig: what precedes most traffic of a host, a class of none of the tables but part of normal traffic."""

from __future__ import annotations

import random
import time

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..media import WORDS

KIND = Kind("lookup_dns", "lookup", "dns", ("non_vpn", "vpn"), packages=("bind9-dnsutils",), python=("dnslib==0.9.26",), captures=3, flows=16)


def serve(server: Host, lab: Lab) -> None:
    server.spawn([lab.python, lab.programs / "dns_server.py", server.address, server.rng.getrandbits(32)], log="dns")
    wait_until(lambda: listening(server, 53, "udp"), what="the DNS server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    for _ in range(rng.randrange(1, 5)):
        name = ".".join([*rng.sample(["www", "mail", "cdn", "api", "img", "static"], rng.choice([0, 1, 1])), rng.choice(WORDS) + rng.choice(["", rng.choice(WORDS), "-" + rng.choice(WORDS)]), rng.choice(["example", "example.org", "example.net", "example.com"])])
        client.run(["dig", "+tries=2", "+time=2", *rng.choice([[], ["+noedns"], ["+dnssec"], ["+tcp"]]), f"@{server.address}", name, rng.choice(["A", "A", "AAAA", "MX", "TXT"])], timeout=10)
        time.sleep(rng.uniform(0.0, 0.6))
