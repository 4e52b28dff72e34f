"""A network of namespaces: a router and the hosts on it, each on a plain or an emulated link. Nothing leaves it: no namespace
has a route or a device to the machine's own network."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .host import ENDING, Host, hostname_of, kill_group, kill_namespace

GATEWAY = "169.254.1.1"
# No two of them in one /24: an inner network of OpenVPN is one.
CLIENT_POOL = [f"10.{a}.{b}.{c}" for a, b, c in [(20, 1, 11), (20, 2, 34), (20, 3, 57), (20, 4, 80), (31, 7, 103), (31, 8, 126), (31, 9, 149), (44, 2, 172)]]
SERVER_POOL = [f"10.{a}.{b}.{c}" for a, b, c in [(90, 4, 16), (90, 4, 17), (90, 9, 34), (91, 3, 51), (91, 3, 68), (97, 1, 85), (97, 1, 102), (97, 8, 119), (99, 6, 136), (99, 6, 153), (102, 5, 170), (102, 5, 187)]]


# Largest packets of links: Ethernet, PPPoE, and what mobile networks and tunnels leave.
MTUS = [1500, 1492, 1420, 1400]
# Time to live that servers and relays begin with, and how many routers lie before them.
TIMES_TO_LIVE = [64, 64, 64, 128, 255]
HOPS = range(2, 18)


@dataclass
class Link:
    """A client's link and the routers behind it: seconds, bit/s, share of packets lost, bytes, routers. The same both ways."""

    delay: float
    jitter: float
    rate: float
    loss: float
    queue: float = 0.25
    mtu: int = 1500
    hops: int = 0

    @staticmethod
    def drawn(rng: random.Random) -> "Link":
        """Anything from a good fixed line to a poor mobile one, independent of what is recorded."""
        delay = rng.uniform(0.003, 0.045)
        return Link(round(delay, 4), round(delay * rng.uniform(0.0, 0.2), 5), rng.choice([8e6, 15e6, 25e6, 40e6, 60e6]), rng.choice([0.0, 0.0, 0.001, 0.003, 0.005]),
                    mtu=rng.choice(MTUS), hops=rng.choice(HOPS))


class Network:
    """A router namespace and hosts attached to it."""

    def __init__(self, word: str, folder: Path, rng: random.Random):
        self.word = f"lab{os.getpid()}-{word}"
        self.folder = folder
        self.rng = rng
        self.hosts: dict[str, Host] = {}
        self.emulators: dict[str, subprocess.Popen] = {}
        self.namespaces: list[str] = []
        self._interfaces = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.router = self._namespace("router")
        _ip("-n", self.router, "-batch", "-", input="link set lo up\n")
        self._sysctl(self.router, **{"net.ipv4.ip_forward": 1})

    def _namespace(self, name: str) -> str:
        if ENDING.is_set():
            raise RuntimeError("the recorder is ending")
        namespace = f"{self.word}-{name}"
        _ip("netns", "add", namespace)
        self.namespaces.append(namespace)
        etc = Path("/etc/netns") / namespace
        etc.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost"] + [f"{address} {hostname_of(address)}" for address in SERVER_POOL]
        (etc / "hosts").write_text("\n".join(lines) + "\n")
        (etc / "resolv.conf").write_text(f"nameserver {GATEWAY}\noptions timeout:1 attempts:1\n")
        return namespace

    def _sysctl(self, namespace: str, **values) -> None:
        words = [f"{key}={value}" for key, value in {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1, **values}.items()]
        subprocess.run(["ip", "netns", "exec", namespace, "sysctl", "-qw", *words], check=True, capture_output=True)

    def attach(self, name: str, address: str, link: Link | None = None, time_to_live: int = 64, forward: bool = False) -> Host:
        """A new host with this address, on a link of its own to the router."""
        namespace = self._namespace(name)
        self._interfaces += 1
        port = f"p{self._interfaces}"
        if link is None:
            _ip("link", "add", port, "netns", self.router, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        else:
            arguments = {"a": [namespace, "eth0"], "b": [self.router, port], "seed": self.rng.getrandbits(32), **asdict(link)}
            # A link does not slow down because the machine is busy.
            emulator = subprocess.Popen(["nice", "-n", "-10", sys.executable, str(Path(__file__).parent / "emulator.py"), json.dumps(arguments)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(self.folder / f"emulator-{name}.log", "wb"), start_new_session=True)
            self.emulators[name] = emulator
            if emulator.stdout.readline().strip() != b"ready":
                raise RuntimeError(f"the link emulator of {name} did not start: see {self.folder}/emulator-{name}.log; is /dev/net/tun there?")
        mtu = link.mtu if link else 1500
        _ip("-n", namespace, "-batch", "-", input=f"link set lo up\naddr add {address}/32 dev eth0\nlink set eth0 mtu {mtu} up\nroute add {GATEWAY} dev eth0\nroute add default via {GATEWAY} dev eth0\n")
        _ip("-n", self.router, "-batch", "-", input=f"addr add {GATEWAY}/32 dev {port}\nlink set {port} mtu {mtu} up\nroute add {address} dev {port}\n")
        self._sysctl(namespace, **{"net.ipv4.ip_default_ttl": time_to_live, "net.ipv4.ip_forward": int(forward), "net.ipv4.ip_local_port_range": "20000 60999"})
        if link is None:
            # Else a capture or a forwarded packet may be larger than any packet on a wire.
            subprocess.run(["ip", "netns", "exec", namespace, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off"], capture_output=True)
            subprocess.run(["ip", "netns", "exec", self.router, "ethtool", "-K", port, "tso", "off", "gso", "off", "gro", "off", "tx", "off"], capture_output=True)
        host = Host(name, namespace, address, self.folder / name, random.Random(self.rng.getrandbits(64)))
        self.hosts[name] = host
        return host

    def inner(self, name: str, address: str, time_to_live: int = 64) -> Host:
        """A host without a link: a VPN will give it its only interface, so that nothing can pass beside the tunnel."""
        namespace = self._namespace(name)
        _ip("-n", namespace, "link", "set", "lo", "up")
        self._sysctl(namespace, **{"net.ipv4.ip_default_ttl": time_to_live, "net.ipv4.ip_local_port_range": "20000 60999"})
        host = Host(name, namespace, address, self.folder / name, random.Random(self.rng.getrandbits(64)))
        self.hosts[name] = host
        return host

    def route(self, address: str, via: Host) -> None:
        """Packets to `address` go to this host, which forwards them."""
        port = subprocess.run(["ip", "-n", self.router, "route", "get", via.address], capture_output=True, text=True, check=True).stdout.split(" dev ")[1].split()[0]
        _ip("-n", self.router, "route", "replace", address, "via", via.address, "dev", port, "onlink")

    def detach(self, name: str) -> None:
        """Ends everything on a host and removes it."""
        host = self.hosts.pop(name, None)
        if host is None:
            return
        host.stop_all()
        self._remove(host.namespace)
        emulator = self.emulators.pop(name, None)
        if emulator is not None:
            kill_group(emulator)

    def _remove(self, namespace: str) -> None:
        remove_namespace(namespace)
        if namespace in self.namespaces:
            self.namespaces.remove(namespace)

    def close(self) -> None:
        """Ends and removes everything."""
        for name in list(self.hosts):
            self.detach(name)
        for emulator in self.emulators.values():
            kill_group(emulator)
        for namespace in list(self.namespaces):
            kill_namespace(namespace)
            self._remove(namespace)


def _ip(*arguments: str, input: str | None = None) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, input=input)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()} ({input!r})")


def remove_namespace(namespace: str) -> None:
    """Deletes a namespace and its files in /etc/netns."""
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
    shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)


def remove_leftovers() -> list[str]:
    """Removes namespaces of recorders that are no more (killed, say); gives their names."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    gone = []
    for line in listed.splitlines():
        namespace = line.split()[0] if line.split() else ""
        if not namespace.startswith("lab") or "-" not in namespace:
            continue
        owner = namespace[3:].split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            kill_namespace(namespace)
            remove_namespace(namespace)
            gone.append(namespace)
    return gone


def close_all() -> None:
    """Ends and removes every namespace of this process, whatever its threads are in the middle of."""
    ENDING.set()
    for _ in range(10):
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        own = [line.split()[0] for line in listed.splitlines() if line.startswith(f"lab{os.getpid()}-")]
        for namespace in own:
            kill_namespace(namespace)
            remove_namespace(namespace)
        if not own:
            return
