"""File transfer with OpenSSH's sftp: downloads, uploads and listings."""

from __future__ import annotations

import random

from .. import ssh
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("filetrans_sftp", "filetrans", "sftp", ("non_vpn", "vpn", "tor"), packages=("openssh-client", "openssh-server", "openssh-sftp-server", "netcat-openbsd"))

serve = ssh.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    lines = []
    for file in ssh.files(lab, rng):
        what = rng.random()
        if what < 0.5:
            lines.append(f"get {file} {client.folder}/got.bin")
        elif what < 0.85:
            lines.append(f"put {file} {server.folder}/upload/{file.name}")
        else:
            lines.append(f"ls -l {file.parent}")
    client.run(["sftp", "-b", "-", "-P", server.port(rng.randrange(4)), *ssh.options(client, server, rng), f"root@{server.address}"], input="\n".join(lines) + "\n", timeout=40)
