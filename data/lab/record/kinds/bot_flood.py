"""Bot-like traffic: a small flood of UDP datagrams or ICMP echoes, some hundred packets, to the lab's own server host."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("bot_flood", "bot", "flood", packages=("iputils-ping",), captures=4, flows=12)


def serve(server: Host, lab: Lab) -> None:
    """Nothing listens: a flood needs no server."""


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    if rng.random() < 0.1:
        client.run(["ping", "-q", "-c", rng.randrange(40, 120), "-i", "0.01", "-s", rng.choice([56, 500, 1200]), server.address], check=False, timeout=20)
    else:
        client.run([lab.python, lab.programs / "bot_flood.py", server.address, rng.getrandbits(32)], timeout=20)
