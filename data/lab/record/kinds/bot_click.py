"""Bot-like traffic: click fraud. A program of this project asks the lab's own web server for one advertisement after another,
with made-up referrers."""

from __future__ import annotations

import random

from .. import web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("bot_click", "bot", "click", packages=("nginx-light",), captures=4, flows=15)


def serve(server: Host, lab: Lab) -> None:
    web.serve(server, lab, plain=True)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    client.run([lab.python, lab.programs / "bot_click.py", server.address, 80, rng.getrandbits(32), rng.randrange(2, 6)], timeout=30)
