"""File transfer with rsync over SSH: whole files, and files of which most is there already."""

from __future__ import annotations

import random
import shlex

from .. import ssh
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("filetrans_rsync", "filetrans", "rsync", ("non_vpn", "vpn", "tor"), packages=("rsync", "openssh-client", "openssh-server", "netcat-openbsd"))

serve = ssh.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    shell = shlex.join(["ssh", "-p", str(server.port(rng.randrange(4))), *ssh.options(client, server, rng)])
    words = ["rsync", "-q", *rng.choice([["-a"], ["-az"], ["-a", "--checksum"]]), "-e", shell]
    chosen = ssh.files(lab, rng, 6)
    if rng.random() < 0.6:
        client.run([*words, *(f"root@{server.address}:{file}" for file in chosen), f"{client.folder}/rsync/"], timeout=40)
    else:
        client.run([*words, *chosen, f"root@{server.address}:{server.folder}/upload/"], timeout=40)
