"""Browsing over HTTP/3: pages and what they show over one QUIC connection; aioquic on both sides."""

from __future__ import annotations

import random

from .. import web
from ..host import Host
from ..kind import Kind, Lab, listening, wait_until

KIND = Kind("browsing_http3", "browsing", "http3", ("non_vpn", "vpn"), python=("aioquic==1.7.2",))


def serve(server: Host, lab: Lab) -> None:
    certificate, key = lab.certificate(server)
    ports = [server.port(index) for index in range(4)]
    server.spawn([lab.python, lab.programs / "http3_server.py", server.address, certificate, key, lab.media, *ports], log="http3")
    wait_until(lambda: listening(server, ports[3], "udp"), what="the HTTP/3 server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    paths = [web.page(rng)] + [f"/picture-{rng.randrange(40):02d}.png" for _ in range(rng.randrange(6))] + [web.page(rng) for _ in range(rng.randrange(3))]
    client.run([lab.python, lab.programs / "http3_client.py", server.hostname, server.port(rng.randrange(4)), lab.authority, rng.getrandbits(32), *paths], timeout=60)
