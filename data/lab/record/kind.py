"""What a kind of traffic is, and what a recording offers to it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import authority

if TYPE_CHECKING:
    from .host import Host


@dataclass(frozen=True)
class Kind:
    """One kind of traffic: a client program against a server program.

    A module of `kinds` defines `KIND`, `serve(server, lab)` and `session(client, server, rng, lab)`, and `prepare(lab)` where files
    are made before all recording.
    """

    name: str
    """The word by which `--only` picks it."""
    category: str
    """Label column `category`: browsing, chat, filetrans, voip, video, email, lookup or bot."""
    application: str
    """Label column `application`."""
    tunnels: tuple[str, ...] = ("non_vpn",)
    """Where it is recorded: non_vpn, vpn, tor."""
    packages: tuple[str, ...] = ()
    """Debian packages that it needs."""
    python: tuple[str, ...] = ()
    """PyPI packages that it needs, pinned."""
    captures: int | None = None
    """Captures per tunnel, in place of the plan's."""
    flows: int | None = None
    """Flows per capture, in place of the plan's."""


@dataclass
class Lab:
    """What all sessions of a recording share."""

    seed: int
    authority: Path
    """Certificate of the throw-away authority, PEM."""
    authority_key: Path
    media: Path
    """Generated files, pages, audio and video."""
    tools: Path
    """Virtual environment with the PyPI packages."""
    certificates: dict = field(default_factory=dict)

    @property
    def python(self) -> str:
        """Interpreter for programs of `programs/`: that of `tools`, or our own where no kind needed packages."""
        own = self.tools / "bin" / "python3"
        return str(own) if own.exists() else sys.executable

    @property
    def programs(self) -> Path:
        """Client and server programs of this project."""
        return Path(__file__).parent / "programs"

    def certificate(self, server: "Host") -> tuple[Path, Path]:
        """Certificate chain and private key of this server, made at the first call; a key per server and capture."""
        if server.folder not in self.certificates:
            self.certificates[server.folder] = authority.issue(
                self.authority, self.authority_key, server.folder, server.hostname, server.address, server.rng
            )
        return self.certificates[server.folder]


class SessionError(RuntimeError):
    """A session that did not do what it was to do."""


def wait_until(condition, timeout: float = 40.0, what: str = "server") -> None:
    """Calls `condition` until it is true; raises SessionError after `timeout` seconds."""
    import time

    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise SessionError(f"{what} did not come up within {timeout:g} s")


def listening(host: "Host", port: int, protocol: str = "tcp") -> bool:
    """Whether something listens on this port in the host's namespace."""
    flag = "-ltnH" if protocol == "tcp" else "-lunH"
    try:
        answer = host.run(["ss", flag, f"sport = :{port}"], timeout=10)
    except subprocess.SubprocessError:
        return False
    return bool(answer.stdout.strip())
