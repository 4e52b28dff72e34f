"""Chat as web sites do it: a page and its history over HTTPS, then messages over a WebSocket; aiohttp on both sides."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..torsocks import through_proxy

KIND = Kind(
    name="chat_websocket",
    category="chat",
    application="websocket_chat",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("torsocks",),
    python=("aiohttp==3.14.5",),
)


def serve(server: Host, lab: Lab) -> None:
    """The chat server on one HTTPS port."""
    certificate, key = lab.certificate(server)
    server.spawn(
        [lab.python, lab.programs / "chat_websocket_server.py", "--address", server.address, "--port", server.port(0), "--certificate", certificate,
         "--key", key, "--seed", f"{lab.seed} {server.name}"],
        log="chat_websocket",
    )
    wait_until(lambda: listening(server, server.port(0)), timeout=30, what="the WebSocket chat server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """Two or three people log in, load the history, and talk."""
    argv = [
        lab.python, lab.programs / "chat_websocket.py", "--address", server.address, "--hostname", server.hostname,
        "--port", server.port(0), "--authority", lab.authority, "--seconds", round(rng.uniform(3, 8), 2),
        "--seed", rng.getrandbits(32), "--tls", rng.choice(["1.2", "1.3", "1.3"]), "--people", rng.choice([2, 2, 3]),
    ]
    client.run(through_proxy(client, argv), timeout=90)
