"""Voice rooms: mumble-server, and people who talk by pymumble, with voice over UDP or, behind a proxy, inside the TLS connection."""

from __future__ import annotations

import random
import shutil

from .. import audiovisual
from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..torsocks import through_proxy

KIND = Kind(
    name="voip_mumble",
    category="voip",
    application="mumble",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("mumble-server", "libopus0", "torsocks", "ffmpeg"),
    # protobuf and setuptools: those that pymumble 1.6.1 was written for.
    python=("pymumble==1.6.1", "protobuf==3.12.2", "pycryptodome==4.4.0"),
)

prepare = audiovisual.folder


def serve(server: Host, lab: Lab) -> None:
    """mumble-server on one port, TCP and UDP."""
    audiovisual.folder(lab)
    certificate, key = lab.certificate(server)
    folder = server.folder / "mumble"
    folder.mkdir(exist_ok=True)
    configuration = folder / "mumble-server.ini"
    configuration.write_text(
        f"""database={folder}/mumble-server.sqlite
logfile=
pidfile=
welcometext="<br>Welcome to <b>{server.hostname}</b>.<br>Press to talk.<br>"
port={server.port(0)}
host={server.address}
bandwidth=72000
users=100
opusthreshold=0
sslCert={certificate}
sslKey={key}
sslCiphers=EECDH+AESGCM:EECDH+CHACHA20:EDH+AESGCM
uname=mumble-server
bonjour=False
autobanAttempts=0
messagelimit=10
messageburst=50
"""
    )
    # It gives up root, and its database lies here.
    shutil.chown(folder, "mumble-server", "mumble-server")
    # Once without root it must still bind a port below 1024.
    server.run(["sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=0"])
    server.spawn(["murmurd", "-fg", "-ini", configuration], log="mumble")
    wait_until(lambda: listening(server, server.port(0)), timeout=30, what="mumble-server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """Two or three people talk in turn."""
    people = rng.choice([2, 2, 3])
    # Headers of small packets alone take up to 39 kbit/s of the bandwidth.
    packet, bandwidth = rng.choice([(10, 64_000), (20, 40_000), (20, 48_000), (20, 64_000), (40, 32_000), (40, 48_000), (60, 32_000)])
    argv = [
        lab.python, lab.programs / "voip_mumble.py", "--address", server.address, "--hostname", server.hostname, "--port", server.port(0),
        "--authority", lab.authority, "--seconds", round(rng.uniform(3, 7), 2), "--seed", rng.getrandbits(32), "--tls", rng.choice(["1.2", "1.3", "1.3"]),
        "--packet", packet, "--bandwidth", bandwidth,
    ]
    for speaker in rng.sample(range(audiovisual.SPEECHES), people):
        argv += ["--speech", audiovisual.folder(lab) / f"speech-{speaker}.wav"]
    # One in four uses TCP outside Tor too, as people behind a firewall do.
    if client.proxy is None and rng.random() < 0.75:
        argv.append("--udp")
    client.run(through_proxy(client, argv), timeout=90)
