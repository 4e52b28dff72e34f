"""A private Tor network: three directory authorities, two middle relays and two exits, each a host of its own, and the clients'
tor, which is started anew for every session, since a client carries everything on one TLS connection to its guard."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time

from .host import Host
from .kind import wait_until
from .network import TIMES_TO_LIVE, Link, Network

# Within a Tor network relays differ from servers and clients in everything but that they are hosts.
RELAYS = {"authority1": "10.60.1.21", "authority2": "10.61.2.42", "authority3": "10.62.3.63", "middle1": "10.63.4.84", "middle2": "10.64.5.105", "exit1": "10.65.6.126", "exit2": "10.66.7.147"}
SOCKS_PORT = 9050
OR_PORTS = [443, 9001, 9002, 8443, 5001, 443, 9001]

# All of a session on one connection: the guard, drawn anew for every start, is the directory too, and there is no second guard.
ONE_GUARD = "UseEntryGuards 1\nNumEntryGuards 1\nNumDirectoryGuards 1\nNumPrimaryGuards 1\nEntryNodes {guard}\nConfluxEnabled 0\nLearnCircuitBuildTimeout 0\n"

COMMON = """TestingTorNetwork 1
SafeLogging 0
Log notice file {folder}/tor.log
DataDirectory {folder}/data
ShutdownWaitLength 0
DisableDebuggerAttachment 0
{authorities}
"""

RELAY = """Nickname {name}
Address {address}
ORPort {address}:{or_port}
DirPort {address}:7000
SocksPort 0
AssumeReachable 1
ContactInfo nobody@example.org
ExitPolicyRejectPrivate 0
"""

AUTHORITY = """AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ExitPolicy reject *:*
TestingV3AuthInitialVotingInterval 40
TestingV3AuthInitialVoteDelay 8
TestingV3AuthInitialDistDelay 8
V3AuthVotingInterval 1200
V3AuthVoteDelay 20
V3AuthDistDelay 20
TestingMinTimeToReportBandwidth 0
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
"""


class TorNetwork:
    """The relays, running and bootstrapped, on `network`."""

    def __init__(self, network: Network, rng: random.Random):
        self.network = network
        hosts = {}
        for number, (name, address) in enumerate(RELAYS.items()):
            link = Link(round(rng.uniform(0.001, 0.008), 4), 0.0005, 80e6, 0.0)
            hosts[name] = network.attach(name, address, link, TIMES_TO_LIVE[number % len(TIMES_TO_LIVE)])
        lines = []
        for index, (name, host) in enumerate(hosts.items()):
            if name.startswith("authority"):
                lines.append(self._authority(name, host, OR_PORTS[index]))
        self.authorities = "\n".join(lines)
        for index, (name, host) in enumerate(hosts.items()):
            text = COMMON.format(folder=host.folder, authorities=self.authorities) + RELAY.format(name=name, address=host.address, or_port=OR_PORTS[index])
            if name.startswith("authority"):
                text += AUTHORITY
            elif name.startswith("exit"):
                text += "ExitRelay 1\nExitPolicy accept *:*\n"
            else:
                text += "ExitRelay 0\nExitPolicy reject *:*\n"
            (host.folder / "torrc").write_text(text)
            # All captures over Tor wait for the relays.
            host.spawn(["nice", "-n", "-5", "tor", "-f", host.folder / "torrc", "--quiet"], log="tor-output")
        for name, host in hosts.items():
            log = host.folder / "tor.log"
            wait_until(lambda: log.exists() and "Bootstrapped 100%" in log.read_text(), 240, f"Tor relay {name}")
        # The first vote may come before all relays have said who they are, and the next one is twenty minutes away.
        wait_until(lambda: len(self._listed()) == len(RELAYS) and len(self._stable()) >= 2, 30, "a consensus on all relays of the Tor network")
        self.guards = self._stable()

    def _listed(self) -> list[tuple[str, str]]:
        """Relays of the consensus and their flags."""
        consensus = self.network.hosts["authority1"].folder / "data" / "cached-microdesc-consensus"
        return re.findall(r"^r (\S+) .*\n(?:(?!r |s ).*\n)*s (.*)$", consensus.read_text(), re.M) if consensus.exists() else []

    def _stable(self) -> list[str]:
        """Relays that are no exits and that the consensus calls stable; clients do not build circuits on others."""
        return sorted(name for name, flags in self._listed() if not name.startswith("exit") and {"Guard", "Stable", "Running"} <= set(flags.split()))

    def _authority(self, name: str, host: Host, or_port: int) -> str:
        keys = host.folder / "data" / "keys"
        keys.mkdir(parents=True)
        (host.folder / "data").chmod(0o700)
        keys.chmod(0o700)
        subprocess.run(["tor-gencert", "--create-identity-key", "-m", "12", "-a", f"{host.address}:7000", "--passphrase-fd", "0",
                        "-i", keys / "authority_identity_key", "-s", keys / "authority_signing_key", "-c", keys / "authority_certificate"],
                       check=True, capture_output=True, input=b"lab\n")
        identity = re.search(r"^fingerprint ([0-9A-F]{40})", (keys / "authority_certificate").read_text(), re.M).group(1)
        shown = subprocess.run(["tor", "--list-fingerprint", "--ORPort", "1", "--DataDirectory", str(host.folder / "data"), "--quiet", "-f", "/nonexistent", "--ignore-missing-torrc",
                                "--Nickname", name, "--DirAuthority", "x 127.0.0.1:1 " + "F" * 40], check=True, capture_output=True, text=True).stdout
        fingerprint = re.search(r"((?:[0-9A-F]{4} ?){10})", shown).group(1).replace(" ", "")
        return f"DirAuthority {name} orport={or_port} no-v2 v3ident={identity} {host.address}:7000 {fingerprint}"

    def client_up(self, client: Host, timeout: float = 120) -> None:
        """Starts a tor for this client with a fresh choice of guard; returns when it has a circuit. Its directory is that of an
        earlier start, if there was one, as a user's is."""
        folder = client.folder / "tor"
        shutil.rmtree(folder, ignore_errors=True)
        data = folder / "data"
        data.mkdir(parents=True)
        data.chmod(0o700)
        kept = client.folder / "tor-directory"
        if kept.exists():
            for file in kept.iterdir():
                shutil.copy(file, data / file.name)
        text = COMMON.format(folder=folder, authorities=self.authorities) + f"SocksPort 127.0.0.1:{SOCKS_PORT}\nClientOnly 1\n" + ONE_GUARD.format(guard=client.rng.choice(self.guards))
        (folder / "torrc").write_text(text)
        client.tor_process = client.spawn(["tor", "-f", folder / "torrc", "--quiet"], log="tor-output")
        log = folder / "tor.log"
        wait_until(lambda: log.exists() and "Bootstrapped 100%" in log.read_text(), timeout, f"tor of {client.name}")
        client.proxy = f"127.0.0.1:{SOCKS_PORT}"
        if not kept.exists():
            # tor writes its directory cache when it ends.
            time.sleep(0.5)
            self.client_down(client)
            kept.mkdir()
            for file in data.glob("cached-*"):
                shutil.copy(file, kept / file.name)
            self.client_up(client, timeout)

    def client_down(self, client: Host) -> None:
        """Ends this client's tor."""
        client.stop(client.tor_process)
