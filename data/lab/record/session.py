"""Recording one capture: the hosts, the tunnel, the sessions one after another, tcpdump on the client, the cut."""

from __future__ import annotations

import json
import random
import subprocess
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from . import cut as cutting
from .capture import Capture
from .kind import Lab, SessionError
from .network import CLIENT_POOL, HOPS, SERVER_POOL, TIMES_TO_LIVE, Link, Network
from .plan import Planned
from .tor import TorNetwork
from .vpn import Vpn


@dataclass
class Recorded:
    """What came of one planned capture."""

    planned: Planned
    client: str = ""
    server: str = ""
    link: Link | None = None
    sessions: int = 0
    failed: int = 0
    seconds: float = 0.0
    dropped: int = 0
    inside: cutting.Cut | None = None
    """The capture; of a VPN, that inside the tunnel."""
    outside: cutting.Cut | None = None
    errors: list[str] = field(default_factory=list)
    folder: Path = Path()


# A capture ends after this many seconds whatever it has.
LONGEST = 600.0


def record(planned: Planned, module, lab: Lab, folder: Path, tor: "SharedTor | None" = None, longest: float = LONGEST, attempt: int = 0) -> Recorded:
    """Records one capture into `folder`; gives its cut. Another `attempt` draws another client, server, link and settings."""
    rng = random.Random(f"{lab.seed} {planned.stem}" + (f" {attempt}" if attempt else ""))
    result = Recorded(planned, folder=folder)
    started = time.monotonic()
    if planned.tunnel == "tor":
        network, word = tor.network, f"{planned.stem}-"
        names = (f"c{tor.number()}", f"s{tor.number()}")
        addresses = tor.addresses(rng)
    else:
        network = Network(f"{abs(hash(planned.stem)) % 10**8}", folder / "hosts", rng)
        names, addresses = ("client1", "server1"), (rng.choice(CLIENT_POOL), rng.choice(SERVER_POOL))
    attached = []
    try:
        result.client, result.server = addresses
        result.link = Link.drawn(rng)
        server_time_to_live = rng.choice(TIMES_TO_LIVE)
        if planned.tunnel == "vpn":
            # Packets inside the tunnel do not see the link's routers: theirs lie between gateway and server. The inner MTU is drawn, the outer one holds it.
            server_time_to_live -= rng.choice(HOPS)
            result.link.mtu = 1500
        time_to_live = rng.choice([64, 64, 128])
        uplink = client = network.attach(names[0], addresses[0], result.link, time_to_live)
        attached.append(names[0])
        server = network.attach(names[1], addresses[1], None, server_time_to_live)
        attached.append(names[1])
        module.serve(server, lab)
        vpn = None
        if planned.tunnel == "vpn":
            client = network.inner("inside", rng.choice([address for address in CLIENT_POOL if address != addresses[0]]), time_to_live)
            gateway_address = rng.choice([address for address in SERVER_POOL if address != addresses[1]])
            gateway = network.attach("gateway", gateway_address, None, time_to_live=rng.choice([64, 128]), forward=True)
            vpn = Vpn(planned.protocol, network, client, uplink, server, gateway, lab, rng)
        if planned.tunnel == "tor":
            tor.tor.client_up(client)
            tor.tor.client_down(client)
        _sessions(planned, module, lab, folder, client, uplink, server, vpn, tor, rng, result, longest)
    finally:
        for name in reversed(attached) if planned.tunnel == "tor" else ():
            network.detach(name)
        if planned.tunnel != "tor":
            network.close()
        else:
            tor.give_back(addresses)
    result.seconds = time.monotonic() - started
    return result


def _sessions(planned, module, lab, folder, client, uplink, server, vpn, tor, rng, result, longest) -> None:
    outer = folder / f"{planned.stem}.outer.pcap"
    inner_parts: list[Path] = []
    windows: list[tuple[float, float]] = []
    capture = Capture(uplink, "eth0", outer)
    began = time.monotonic()
    try:
        while time.monotonic() - began < longest:
            if result.failed >= 5 and result.failed > result.sessions:
                raise SessionError(f"{planned.stem}: {result.failed} sessions failed, the last with {result.errors[-1]}")
            start, inner_capture = time.time(), None
            try:
                if vpn is not None:
                    interface = vpn.up()
                    inner_parts.append(folder / f"{planned.stem}.inner-{len(inner_parts):03d}.pcap")
                    inner_capture = Capture(client, interface, inner_parts[-1])
                if tor is not None:
                    tor.tor.client_up(client)
                    # The connection to the guard and the circuits kept in reserve are there before the session, as a user's are.
                    time.sleep(1.2 + 16 * result.link.delay)
                    start = time.time()
                module.session(client, server, rng, lab)
                good = True
            except (SessionError, subprocess.SubprocessError, OSError, RuntimeError) as error:
                good = False
                result.errors.append(told(error))
            except Exception:  # a kind's own mistake: counted, told, not hidden
                good = False
                result.errors.append(traceback.format_exc(limit=-3))
            finally:
                if inner_capture is not None:
                    result.dropped += inner_capture.stop()
                if vpn is not None:
                    vpn.down()
                if tor is not None and getattr(client, "tor_process", None) is not None:
                    tor.tor.client_down(client)
            time.sleep(0.1 + 2 * result.link.delay)
            end = time.time()
            result.sessions += good
            result.failed += not good
            if good:
                windows.append((start, end))
            # Over Tor a session is one flow.
            flows = len(windows) if tor is not None else cutting.cut(inner_parts if vpn is not None else [outer], windows, planned.flows).flows
            if flows >= planned.flows:
                break
            time.sleep(rng.uniform(0.0, 0.3))
    finally:
        result.dropped += capture.stop()
    # What it takes to cut the whole captures again.
    (folder / f"{planned.stem}.windows.json").write_text(json.dumps({"windows": windows, "flows": planned.flows, "running": tor is not None, "inner": [path.name for path in inner_parts]}))
    if vpn is not None:
        result.inside = cutting.cut(inner_parts, windows, planned.flows, tor is not None)
        result.outside = cutting.cut([outer], windows, planned.flows, tor is not None)
    else:
        result.inside = cutting.cut([outer], windows, planned.flows, tor is not None)


def told(error: Exception) -> str:
    """What went wrong, in a line: of a program its name and its last words, not its arguments."""
    if not isinstance(error, (subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        return str(error)
    words = [str(word) for word in error.cmd]
    if words[:3] == ["ip", "netns", "exec"]:
        words = words[4:]
    program = " ".join(Path(word).name for word in words[:2])
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{program} ran past {error.timeout:g} s"
    return f"{program} ended with {error.returncode}: {(error.stderr or error.output or '').strip()[-200:]}"


class SharedTor:
    """One private Tor network for all captures over Tor, and the addresses in use on it."""

    def __init__(self, lab: Lab, folder: Path):
        import threading

        for attempt in range(3):
            self.network = Network(f"tor{attempt}", folder / f"tor{attempt}", random.Random(f"{lab.seed} tor"))
            try:
                self.tor = TorNetwork(self.network, random.Random(f"{lab.seed} relays"))
                break
            except BaseException as error:
                self.network.close()
                if attempt == 2 or not isinstance(error, SessionError):
                    raise
        self.lock = threading.Lock()
        self.used: set[str] = set()
        self.count = 0

    def number(self) -> int:
        with self.lock:
            self.count += 1
            return self.count

    def addresses(self, rng: random.Random) -> tuple[str, str]:
        """A client's and a server's address that nobody uses now."""
        with self.lock:
            pair = tuple(rng.choice([address for address in pool if address not in self.used]) for pool in (CLIENT_POOL, SERVER_POOL))
            self.used.update(pair)
            return pair

    def give_back(self, addresses: tuple[str, str]) -> None:
        with self.lock:
            self.used.difference_update(addresses)

    def close(self) -> None:
        self.network.close()
