"""Browsing with w3m, the text browser: pages alone, with a reader's pauses."""

from __future__ import annotations

import random
import time

from .. import web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("browsing_w3m", "browsing", "w3m", ("non_vpn", "vpn"), packages=("w3m", "nginx-light"))


def serve(server: Host, lab: Lab) -> None:
    web.serve(server, lab, plain=True)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    # One connection in four or so is not encrypted, as on the web in 2026 for old sites.
    base = f"http://{server.hostname}" if rng.random() < 0.25 else web.address(client, server, rng, rng.choice([0, 1, 2]))
    for _ in range(rng.choice([1, 2, 3])):
        client.run(["w3m", "-dump", "-o", f"ssl_ca_file={lab.authority}", "-o", "ssl_verify_server=1", "-o", f"user_agent=w3m/{rng.choice(['0.5.3', '0.5.2'])}", base + web.page(rng)], env={"HOME": str(client.folder), "TERM": "dumb"}, timeout=20)
        time.sleep(rng.uniform(0.2, 1.5))
