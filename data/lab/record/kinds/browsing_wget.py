"""Browsing with wget: a page and what it needs, or a few levels of links."""

from __future__ import annotations

import random
import shutil

from .. import web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("browsing_wget", "browsing", "wget", ("non_vpn", "vpn", "tor"), packages=("wget", "nginx-light", "torsocks"))

serve = web.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    base = web.address(client, server, rng)
    options = rng.choice([["--page-requisites"], ["--page-requisites", "--wait=0.3", "--random-wait"], ["--recursive", "--level=1", "--quota=200k"], ["--no-http-keep-alive", "--page-requisites"]])
    torify = ["torsocks", "--address", client.proxy.split(":")[0], "--port", client.proxy.split(":")[1]] if client.proxy else []
    # Exit code 8: the server said 404 for something, as real sites do.
    done = client.run([*torify, "timeout", str(rng.randrange(4, 12)), "wget", "-q", "--no-check-certificate" if client.proxy else f"--ca-certificate={lab.authority}", "--tries=1", "--timeout=15", "-P", client.folder / "wget", *options, base + web.page(rng)], check=False)
    shutil.rmtree(client.folder / "wget", ignore_errors=True)
    if done.returncode not in (0, 8, 124):
        done.check_returncode()
