"""Chat over XMPP: prosody, and people who talk in a room or to one another by slixmpp, with direct TLS or STARTTLS."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..torsocks import through_proxy

KIND = Kind(
    name="chat_xmpp",
    category="chat",
    application="xmpp_chat",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("prosody", "lua-sec", "torsocks"),
    python=("slixmpp==1.17.0",),
)

ACCOUNTS = 20


def serve(server: Host, lab: Lab) -> None:
    """Prosody on two ports of this host: one for STARTTLS, one for TLS from the first byte."""
    certificate, key = lab.certificate(server)
    folder = server.folder / "prosody"
    accounts = folder / "data" / server.hostname.replace(".", "%2e").replace("-", "%2d") / "accounts"
    accounts.mkdir(parents=True, exist_ok=True)
    for number in range(ACCOUNTS):
        (accounts / f"user{number}.dat").write_text(f'return {{ ["password"] = "{password(lab, number)}"; }};\n')
    configuration = folder / "prosody.cfg.lua"
    configuration.write_text(
        f"""run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
log = {{ info = "{folder}/prosody-info.log" }}
interfaces = {{ "{server.address}" }}
modules_enabled = {{ "disco", "roster", "saslauth", "tls", "dialback", "private", "vcard4", "carbons", "ping", "time", "version" }}
modules_disabled = {{ "s2s" }}
c2s_ports = {{ {server.port(0)} }}
c2s_direct_tls_ports = {{ {server.port(1)} }}
c2s_require_encryption = true
authentication = "internal_plain"
limits = {{}}
ssl = {{ certificate = "{certificate}"; key = "{key}" }}
c2s_direct_tls_ssl = {{ certificate = "{certificate}"; key = "{key}" }}
VirtualHost "{server.hostname}"
Component "rooms.{server.hostname}" "muc"
  restrict_room_creation = false
  muc_room_locking = false
"""
    )
    server.spawn(["prosody", "--config", configuration, "-F"], log="prosody")
    for index in (0, 1):
        wait_until(lambda: listening(server, server.port(index)), timeout=30, what="prosody")


def password(lab: Lab, number: int) -> str:
    """Password of an account; prosody and the clients must agree on it."""
    return f"{random.Random(f'{lab.seed} xmpp {number}').getrandbits(60):015x}"


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """Two or three people meet in a room of their own, or write to one another directly."""
    direct = rng.random() < 0.5
    users = rng.sample(range(ACCOUNTS), rng.choice([2, 2, 3]))
    argv = [
        lab.python, lab.programs / "chat_xmpp.py", "--address", server.address, "--hostname", server.hostname,
        "--port", server.port(1 if direct else 0), "--authority", lab.authority, "--seconds", round(rng.uniform(3, 8), 2),
        "--seed", rng.getrandbits(32), "--tls", rng.choice(["1.2", "1.3", "1.3"]), "--mode", rng.choice(["room", "direct"]),
    ]
    for user in users:
        argv += ["--user", f"user{user}:{password(lab, user)}"]
    if direct:
        argv.append("--direct-tls")
    client.run(through_proxy(client, argv), timeout=90)
