"""Browsing with curl: pages and what they show, over one or several connections."""

from __future__ import annotations

import random
import time

from .. import web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("browsing_curl", "browsing", "curl", ("non_vpn", "vpn", "tor"), packages=("curl", "nginx-light"))

serve = web.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    base = web.address(client, server, rng)
    options = rng.choice([["--http1.1"], ["--http2"], ["--http2", "--parallel"], ["--compressed"], ["--tls-max", "1.2"] if base.endswith(str(server.port(0))) else []])
    proxy = ["--socks5-hostname", client.proxy] if client.proxy else []
    for _ in range(rng.choice([1, 1, 2, 3])):
        paths = [web.page(rng)] + [f"/picture-{rng.randrange(40):02d}.png" for _ in range(rng.randrange(6))] + ["/style-1.css"] * rng.randrange(2)
        words = [word for path in paths for word in ("-o", "/dev/null", base + path)]
        client.run(["curl", "-sS", "--fail", "--cacert", lab.authority, *options, *proxy, *words], timeout=30)
        time.sleep(rng.uniform(0.1, 1.2))
