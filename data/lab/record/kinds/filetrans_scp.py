"""File transfer with OpenSSH's scp, over its own protocol or over SFTP's."""

from __future__ import annotations

import random

from .. import ssh
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("filetrans_scp", "filetrans", "scp", ("non_vpn", "vpn", "tor"), packages=("openssh-client", "openssh-server", "openssh-sftp-server", "netcat-openbsd"))

serve = ssh.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    words = ["scp", "-q", *rng.choice([["-O"], ["-s"], []]), "-P", server.port(rng.randrange(4)), *ssh.options(client, server, rng)]
    chosen = ssh.files(lab, rng)
    if rng.random() < 0.6:
        client.run([*words, *(f"root@{server.address}:{file}" for file in chosen), client.folder], timeout=40)
    else:
        client.run([*words, *chosen, f"root@{server.address}:{server.folder}/upload/"], timeout=40)
