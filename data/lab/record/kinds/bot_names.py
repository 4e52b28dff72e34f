"""Bot-like traffic: look-ups of generated names, of which hardly one exists, at the lab's own DNS server."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab
from . import lookup_dns

KIND = Kind("bot_names", "bot", "names", python=("dnslib==0.9.26",), captures=4, flows=15)

serve = lookup_dns.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    client.run([lab.python, lab.programs / "bot_names.py", server.address, rng.getrandbits(32), rng.randrange(3, 9)], timeout=30)
