"""Bot-like traffic: a command channel over HTTP without TLS. Beacons of this project ask the lab's own server for orders, at
intervals, a connection each; orders are random bytes and nothing acts on them."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until

KIND = Kind("bot_http", "bot", "http", captures=4, flows=15)


def serve(server: Host, lab: Lab) -> None:
    server.spawn([lab.python, lab.programs / "command_server.py", server.address, 80, server.port(0), server.rng.getrandbits(32)], log="command-server")
    wait_until(lambda: listening(server, 80) and listening(server, server.port(0)), what="the command server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    client.run([lab.python, lab.programs / "bot_http.py", server.address, rng.choice([80, server.port(0)]), rng.getrandbits(32), rng.randrange(2, 6)], timeout=40)
