"""File transfer over HTTPS: downloads with curl, wget or aria2, whole or in parts."""

from __future__ import annotations

import random

from .. import ssh, web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("filetrans_https", "filetrans", "https", ("non_vpn", "vpn", "tor"), packages=("curl", "wget", "aria2", "nginx-light"))

serve = web.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    base = web.address(client, server, rng)
    urls = [f"{base}/files/{file.name}" for file in ssh.files(lab, rng, 3)]
    program = "curl" if client.proxy else rng.choice(["curl", "wget", "aria2"])
    if program == "curl":
        proxy = ["--socks5-hostname", client.proxy] if client.proxy else []
        options = rng.choice([["--http1.1"], ["--http2"], ["-r", "0-300000"]])
        client.run(["curl", "-sS", "--fail", "--cacert", lab.authority, *options, *proxy, *(word for url in urls for word in ("-o", "/dev/null", url))], timeout=40)
    elif program == "wget":
        client.run(["wget", "-q", f"--ca-certificate={lab.authority}", "-O", "/dev/null", *urls], timeout=40)
    else:
        client.run(["aria2c", "-q", "--no-conf", f"--ca-certificate={lab.authority}", "--allow-overwrite=true", "--auto-file-renaming=false", "-x", rng.choice([1, 2, 4]), "-k", "1M", "-Z", "-d", client.folder / "aria2", *urls], timeout=40)
