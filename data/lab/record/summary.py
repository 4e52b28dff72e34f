"""`python3 -m record.summary`: the tables of `README.md`: the kinds, and per class captures, flows, packets, and the protocols that
tshark sees."""

from __future__ import annotations

import collections
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from . import plan

CAPTURES = Path(__file__).resolve().parent.parent / "captures"

# Columns of tshark that say nothing about the application.
LAYERS = {"eth", "ethertype", "ip", "raw", "tcp", "udp", "data", "frame", "tcp.segments", "x509sat", "x509af", "x509ce", "pkcs1", "pkix1implicit", "pkix1explicit", "_ws.short", "_ws.unreassembled"}


def protocols(path: Path) -> collections.Counter:
    """Packets by the innermost protocol that tshark names; those that carry nothing are not counted."""
    with tempfile.NamedTemporaryFile(suffix=".pcap") as plain:
        subprocess.run(["zstd", "-q", "-d", "-f", str(path), "-o", plain.name], check=True)
        told = subprocess.run(["tshark", "-n", "-r", plain.name, "-T", "fields", "-e", "frame.protocols"], check=True, capture_output=True, text=True).stdout
    found = collections.Counter()
    for line in told.splitlines():
        words = [word for word in line.split(":") if word not in LAYERS]
        if words:
            found[words[0]] += 1
    return found


def print_kinds() -> None:
    """A line per kind, with what its module says of itself."""
    print("| kind (`--only`) | category | application | what | tunnels |\n|---|---|---|---|---|")
    for name, module in plan.all_kinds().items():
        kind = module.KIND
        tunnels = "none" if kind.category == "bot" else ", ".join(kind.tunnels)
        print(f"| {name} | {kind.category} | {kind.application} | {' '.join(module.__doc__.split()).rstrip('.')} | {tunnels} |")
    print()


def main() -> None:
    print_kinds()
    with open(CAPTURES / "captures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    classes: dict = {}
    for row in rows:
        tunnel = "none" if row["category"] == "bot" else row["tunnel"]
        if row["variant"] == "outside":
            tunnel += ", outside"
        entry = classes.setdefault((row["category"] == "bot", tunnel, row["category"], row["application"]), [0, 0, 0, 0, set(), set(), collections.Counter()])
        for index, column in enumerate(("flows", "packets", "bytes"), 1):
            entry[index] += int(row[column])
        entry[0] += 1
        entry[4].add(row["client"])
        entry[5].add(row["server"])
        entry[6].update(protocols(CAPTURES / row["capture"]))
    print("| tunnel | category | application | captures | flows | packets | kB | clients | servers | protocols by tshark (share of packets with payload) |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (_, tunnel, category, application), (captures, flows, packets, size, clients, servers, seen) in sorted(classes.items()):
        total = sum(seen.values()) or 1
        shown = ", ".join(f"{name} {count * 100 // total} %" for name, count in seen.most_common(4) if count * 50 >= total)
        print(f"| {tunnel} | {category} | {application} | {captures} | {flows:,} | {packets:,} | {size // 1000:,} | {len(clients)} | {len(servers)} | {shown} |")
    print(f"\n{len(rows)} captures, {sum(int(row['flows']) for row in rows):,} flows, {sum(int(row['packets']) for row in rows):,} packets, {sum(int(row['bytes']) for row in rows) / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
