"""Bot-like traffic: a command channel over IRC without TLS. Bots of this project join a channel of the lab's own ngircd, a herder
beside the server gives orders, bots answer in words. No order does anything."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until

KIND = Kind("bot_irc", "bot", "irc", packages=("ngircd",), captures=4, flows=15)


def serve(server: Host, lab: Lab) -> None:
    server.channel = f"#{server.rng.choice(['x', 'cmd', 'w0rk', 'net', 'rbot'])}{server.rng.randrange(1000)}"
    folder = server.folder
    (folder / "ngircd.conf").write_text(f"[Global]\nName = irc.lab.example\nInfo = lab\nListen = {server.address}\nPorts = {server.port(0)}, 6667\nServerUID = nobody\nServerGID = nogroup\nPidFile =\n"
                                        f"[Limits]\nMaxConnectionsIP = 0\nMaxJoins = 50\nPingTimeout = {server.rng.choice([2, 5, 20])}\n[Options]\nDNS = no\nIdent = no\nPAM = no\n")
    folder.chmod(0o755)
    server.spawn(["ngircd", "-n", "-f", folder / "ngircd.conf"], log="ngircd")
    wait_until(lambda: listening(server, 6667), what="ngircd")
    server.spawn([lab.python, lab.programs / "bot_irc.py", "herder", server.address, 6667, server.channel, server.rng.getrandbits(32), 3600], log="herder")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    port = rng.choice([6667, server.port(0)])
    client.run([lab.python, lab.programs / "bot_irc.py", "bot", server.address, port, server.channel, rng.getrandbits(32), rng.uniform(2.0, 7.0)], timeout=20)
