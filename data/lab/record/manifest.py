"""The manifest: `captures.csv`, a line per capture, and `programs.csv`, the versions that made them."""

from __future__ import annotations

import csv
import hashlib
import subprocess
from pathlib import Path

from . import packages

COLUMNS = ["capture", "variant", "tunnel", "protocol", "category", "application", "client", "server", "delay_ms", "jitter_ms", "rate_mbit", "loss", "mtu", "hops", "seed", "sessions", "flows", "packets", "bytes", "sha256"]


def _row(folder: Path, done, seed: int, variant: str, result, path: Path) -> dict:
    data = path.read_bytes()
    return {
        "capture": str(path.relative_to(folder)), "variant": variant, "tunnel": done.planned.tunnel, "protocol": done.planned.protocol,
        "category": done.planned.kind.category, "application": done.planned.kind.application, "client": done.client, "server": done.server,
        "delay_ms": f"{done.link.delay * 1000:.1f}", "jitter_ms": f"{done.link.jitter * 1000:.2f}", "rate_mbit": f"{done.link.rate / 1e6:g}", "loss": f"{done.link.loss:g}", "mtu": done.link.mtu, "hops": done.link.hops,
        "seed": seed, "sessions": done.sessions, "flows": result.flows, "packets": len(result.packets), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }


def append(folder: Path, done, seed: int) -> None:
    """Adds a capture's lines, in place of older ones of the same name."""
    path = folder / "captures.csv"
    rows = []
    if path.exists():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    name = f"{done.planned.stem}.pcap.zst"
    new = [_row(folder, done, seed, "inside" if done.outside is not None else "only", done.inside, folder / name)]
    if done.outside is not None:
        new.append(_row(folder, done, seed, "outside", done.outside, folder / "outside" / name))
    replaced = {row["capture"] for row in new}
    rows = sorted([row for row in rows if row["capture"] not in replaced] + new, key=lambda row: row["capture"])
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_programs(folder: Path, kinds, lab) -> None:
    """The Debian and PyPI packages and their versions."""
    lines = [("debian", name, version) for name, version in packages.versions([*packages.DEBIAN, *(name for kind in kinds for name in kind.packages)]).items()]
    frozen = subprocess.run([lab.python, "-m", "pip", "freeze"], capture_output=True, text=True).stdout
    lines += [("pypi", *line.split("==")) for line in frozen.split() if "==" in line]
    with open(folder / "programs.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["registry", "package", "version"])
        writer.writerows(sorted(lines))
