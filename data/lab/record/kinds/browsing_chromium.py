"""Browsing with headless Chromium: pages with all they show, one after another as their script goes on."""

from __future__ import annotations

import random
import shutil
import time

from .. import web
from ..host import PORT_POOL, Host
from ..kind import Kind, Lab, SessionError

KIND = Kind("browsing_chromium", "browsing", "chromium", ("non_vpn", "vpn", "tor"), packages=("chromium", "nginx-light"))

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-extensions", "--disable-default-apps", "--disable-domain-reliability", "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,NetworkTimeServiceQuerying",
         # It refuses the ports of other protocols else.
         f"--explicitly-allowed-ports={','.join(map(str, PORT_POOL))}",
         "--ignore-certificate-errors", "--mute-audio", "--no-pings", "--window-size=800,600"]

serve = web.serve


def run(client: Host, server: Host, url: str, seconds: float, extra: list[str] = []) -> None:
    """Keeps a browser on this address for some seconds; raises SessionError where it asked the server for nothing."""
    profile = client.folder / "chromium"
    shutil.rmtree(profile, ignore_errors=True)
    log = server.folder / "nginx-access.log"
    before = log.stat().st_size if log.exists() else 0
    proxy = [f"--proxy-server=socks5://{client.proxy}"] if client.proxy else []
    # Names that the lab does not have are not looked up: no packets of the browser's own calls home.
    browser = client.spawn(["chromium", *FLAGS, f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE *.example , EXCLUDE 10.* , EXCLUDE 127.0.0.1", *proxy, *extra, url], log="chromium")
    try:
        end = time.monotonic() + 45
        while time.monotonic() < end and not (log.exists() and log.stat().st_size > before):
            if browser.poll() is not None:
                raise SessionError("chromium ended by itself: see chromium.log")
            time.sleep(0.1)
        if not (log.exists() and log.stat().st_size > before):
            raise SessionError("chromium asked for nothing within 45 s")
        time.sleep(seconds)
    finally:
        client.stop(browser)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    run(client, server, web.address(client, server, rng) + web.page(rng), rng.uniform(2.0, 6.0))
