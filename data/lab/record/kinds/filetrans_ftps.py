"""File transfer with FTP over TLS, lftp against pyftpdlib: control and data connections, passive."""

from __future__ import annotations

import random

from .. import ssh
from ..host import Host
from ..kind import Kind, Lab, listening, wait_until

KIND = Kind("filetrans_ftps", "filetrans", "ftps", ("non_vpn", "vpn"), packages=("lftp",), python=("pyftpdlib==2.2.0", "pyopenssl==26.4.0"))


def serve(server: Host, lab: Lab) -> None:
    certificate, key = lab.certificate(server)
    pair = server.folder / "pair.pem"
    pair.write_text(certificate.read_text() + key.read_text())
    low = server.rng.randrange(30000, 50000)
    server.spawn([lab.python, lab.programs / "ftp_server.py", server.address, server.port(0), low, pair, lab.media / "files"], log="ftp")
    wait_until(lambda: listening(server, server.port(0)), what="the FTP server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    settings = f"set ssl:ca-file {lab.authority}; set ftp:ssl-force true; set ftp:ssl-allow-anonymous true; set ftp:ssl-allow true; set ftp:ssl-protect-data true; set net:max-retries 1; set net:timeout 15; set cmd:fail-exit true; set ftp:list-options ''; set net:connection-limit 2"
    lines = [settings, f"open ftp://{server.hostname}:{server.port(0)}"]
    if rng.random() < 0.4:
        lines.append("cls -l > /dev/null")
    for file in ssh.files(lab, rng):
        lines.append(f"get -O {client.folder} -e {file.name}" if rng.random() < 0.8 else f"pget -n 2 -O {client.folder} {file.name}\n!rm -f {client.folder}/{file.name}")
    lines.append("bye")
    client.run(["lftp", "--norc", "-c", "\n".join(lines)], env={"HOME": str(client.folder)}, timeout=40)
