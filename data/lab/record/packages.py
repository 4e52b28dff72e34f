"""What a recording needs on the machine, checked before anything starts, and the versions that it had."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

# The framework's own; each kind names what it needs beside them.
DEBIAN = ("iproute2", "procps", "iputils-ping", "ethtool", "tcpdump", "openssl", "zstd", "openvpn", "wireguard-tools", "wireguard-go", "tor")


def versions(names) -> dict[str, str]:
    """Installed versions of Debian packages; those that are missing are not in it."""
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Abbrev} ${Version}\n", *sorted(set(names))], capture_output=True, text=True)
    found = {}
    for line in shown.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] == "ii":
            found[words[0].split(":")[0]] = words[2]
    return found


def missing(kinds) -> list[str]:
    """What stands in the way of a recording, as lines for a person."""
    problems = []
    if os.geteuid() != 0:
        problems.append("this needs root: network namespaces and TAP devices are made")
    if not Path("/dev/net/tun").exists():
        problems.append("/dev/net/tun is not there: load the module tun")
    if sys.version_info < (3, 11):
        problems.append("Python 3.11 or newer is needed")
    if shutil.which("dpkg-query") is None:
        problems.append("packages are checked with dpkg: record on Debian 12 or newer, or on a system made from it")
        return problems
    if any(kind.python for kind in kinds) and importlib.util.find_spec("ensurepip") is None:
        problems.append("Python packages go into a virtual environment, which Debian packs apart: apt-get install --no-install-recommends python3-venv")
    needed = sorted({*DEBIAN, *(name for kind in kinds for name in kind.packages)})
    present = versions(needed)
    absent = [name for name in needed if name not in present]
    if absent:
        problems.append("packages are missing: apt-get install --no-install-recommends " + " ".join(absent))
    if not problems and (refused := _refused()):
        problems.append(f"no network namespace with a TAP device can be made, as in a container without the right to: {refused}")
    return problems


def _refused() -> str:
    """What this machine says to a namespace with a TAP device in it; nothing where it lets us."""
    name = f"lab{os.getpid()}-trial"
    for words in (["netns", "add", name], ["-n", name, "tuntap", "add", "dev", "trial", "mode", "tap"], ["netns", "del", name]):
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
        if done.returncode != 0:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            return f"ip {' '.join(words)}: {done.stderr.strip()}"
    return ""


def python_tools(folder: Path, kinds) -> Path:
    """A virtual environment with the pinned PyPI packages of these kinds, made where it is needed."""
    wanted = sorted({name for kind in kinds for name in kind.python})
    if not wanted:
        return folder
    stamp = folder / "installed.txt"
    if not (folder / "bin" / "python3").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    installed = stamp.read_text().split() if stamp.exists() else []
    if any(name not in installed for name in wanted):
        subprocess.run([str(folder / "bin" / "python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
        stamp.write_text("\n".join(sorted({*installed, *wanted})) + "\n")
    return folder
