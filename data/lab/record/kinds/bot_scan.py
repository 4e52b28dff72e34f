"""Bot-like traffic: a small scan of ports of the lab's own server host, by connecting. Few ports at a time, then it stops."""

from __future__ import annotations

import random

from .. import web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("bot_scan", "bot", "scan", packages=("nginx-light",), captures=4, flows=20)


def serve(server: Host, lab: Lab) -> None:
    web.serve(server, lab, plain=True)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    client.run([lab.python, lab.programs / "bot_scan.py", server.address, rng.getrandbits(32), rng.randrange(4, 10), *(server.port(index) for index in range(4))], timeout=30)
