"""Chat over IRC with TLS: ngircd, and people in a channel by the `irc` library."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..torsocks import through_proxy

KIND = Kind(
    name="chat_irc",
    category="chat",
    application="irc_chat",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("ngircd", "torsocks"),
    python=("irc==20.5.0",),
)


def serve(server: Host, lab: Lab) -> None:
    """ngircd with one TLS port."""
    certificate, key = lab.certificate(server)
    configuration = server.folder / "ngircd.conf"
    configuration.write_text(
        f"""[Global]
Name = {server.hostname}
AdminInfo1 = lab
Info = lab server
Listen = {server.address}
Ports = 0
ServerUID = irc
ServerGID = irc
MotdPhrase = Welcome. Be kind to one another, and keep to the topic of the channel.
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 20
PingTimeout = 20
[Options]
DNS = no
Ident = no
PAM = no
SyslogFacility = local1
[SSL]
CertFile = {certificate}
KeyFile = {key}
Ports = {server.port(0)}
"""
    )
    # Once without root it must still bind a port below 1024.
    server.run(["sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=0"])
    server.spawn(["ngircd", "--config", configuration, "--nodaemon"], log="ngircd")
    wait_until(lambda: listening(server, server.port(0)), timeout=30, what="ngircd")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """Two to four people join a channel and talk; some also write privately."""
    argv = [
        lab.python, lab.programs / "chat_irc.py", "--address", server.address, "--hostname", server.hostname,
        "--port", server.port(0), "--authority", lab.authority, "--seconds", round(rng.uniform(3, 8), 2),
        "--seed", rng.getrandbits(32), "--tls", rng.choice(["1.2", "1.3", "1.3"]), "--people", rng.choice([2, 2, 3, 4]),
    ]
    client.run(through_proxy(client, argv), timeout=90)
