#!/usr/bin/env python3
"""Time and peak memory of labelling flows by a netflow file as large as the largest of CTU-13, that of scenario 3.

    cargo build --release
    python benches/flow_labels.py                  # 4,710,638 rows, as scenario 3 has; about 1.5 GB of temporary files
    python benches/flow_labels.py --rows 100000

Writes a capture and its bidirectional netflow file in the format of CTU-13 (both from the same seed), runs
`etcbench data labels ctu13` on them, and checks that its counts match what was written. Flows are spread evenly over 66
hours. Of a thousand rows, 6 are From-Botnet, 25 From-Normal, the others Background; one row in five has the opposite
direction, one flow in a thousand has no row, and one row in a thousand has no flow. A flow has one or two packets
without payload, so that the join is measured and not the reading of packets.
"""

import argparse
import heapq
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n"
BEGIN = 1_313_141_040  # 2011-08-12 09:24:00 UTC
HOURS = 66
UTC_OFFSET = 7200
LABELS = {"botnet": "flow=From-Botnet-V44-TCP-Attempt", "normal": "flow=From-Normal-V44-Grill", None: "flow=Background"}


def packet(tcp, source, destination):
    """Returns an IPv4 packet that consists only of headers."""
    length = 40 if tcp else 28
    (source, source_port), (destination, destination_port) = source, destination
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 6 if tcp else 17, 0, source, destination)
    if tcp:
        return ip + struct.pack(">HHIIBBHHH", source_port, destination_port, 0, 0, 0x50, 0x10, 1024, 0, 0)
    return ip + struct.pack(">HHHH", source_port, destination_port, 8, 0)


def text(address):
    return ".".join(map(str, address))


def write(folder, rows, seed):
    """Writes the capture and the netflow file; returns the number of flows per label and without a row."""
    draw = random.Random(seed)
    counts = {"botnet": 0, "normal": 0, None: 0, "unjoined": 0}
    step = HOURS * 3600 / rows
    pending = []  # second packets: (microseconds, number, bytes)
    shown_second, shown = None, ""
    with (
        open(folder / "capture20110812.truncated.pcap", "wb", buffering=1 << 20) as capture,
        open(folder / "capture20110812.binetflow", "w", buffering=1 << 20) as netflow,
    ):
        capture.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))

        def record(at, data):
            capture.write(struct.pack("<IIII", at // 1_000_000, at % 1_000_000, len(data), len(data)) + data)

        netflow.write(HEADER)
        for number in range(rows):
            at = BEGIN * 1_000_000 + int(number * step * 1e6)
            while pending and pending[0][0] <= at:
                late, _, data = heapq.heappop(pending)
                record(late, data)
            # A five-tuple is not reused within the longest duration of a flow.
            tcp = draw.random() < 0.5
            client = bytes((147, 32, 80 + (number >> 22) % 4, number % 256)), 1024 + (number >> 8) % 64000
            server = draw.randbytes(4), draw.choice((53, 80, 443, 6881))
            two = draw.random() < 0.7
            duration = int(draw.expovariate(1 / 5) * 1e6) if two else 0
            chance = draw.random()
            label = "botnet" if chance < 0.0057 else "normal" if chance < 0.0305 else None
            fate = draw.random()
            if fate >= 0.001:
                record(at, packet(tcp, client, server))
                if two:
                    heapq.heappush(pending, (at + duration, number, packet(tcp, server, client)))
                counts["unjoined" if fate >= 0.999 else label] += 1
            if fate < 0.999:
                if at // 1_000_000 != shown_second:
                    shown_second = at // 1_000_000
                    shown = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime(shown_second + UTC_OFFSET))
                first, second = (server, client) if number % 5 == 0 else (client, server)
                packets, size = (2, 80 if tcp else 56) if two else (1, 40 if tcp else 28)
                netflow.write(
                    f"{shown}.{at % 1_000_000:06},{duration / 1e6:.6f},{'tcp' if tcp else 'udp'},{text(first[0])},{first[1]}"
                    f",  <->,{text(second[0])},{second[1]},CON,0,0,{packets},{size},{size // packets},{LABELS[label]}\n"
                )
        while pending:
            late, _, data = heapq.heappop(pending)
            record(late, data)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcbench", default=str(ROOT / "target/release/etcbench"))
    parser.add_argument("--rows", type=int, default=4_710_638)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="for the generated files; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary) / "ctu13/3"
        folder.mkdir(parents=True)
        counts = write(folder, arguments.rows, arguments.seed)
        for path in sorted(folder.iterdir()):
            print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)
        start = time.perf_counter()
        process = subprocess.Popen(
            [arguments.etcbench, "data", "labels", "ctu13"],
            cwd=ROOT,
            env={**os.environ, "ETCBENCH_DATA": temporary},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    print(told)
    print(
        f"{arguments.rows:,} rows: {wall:.1f} s of wall time, {usage.ru_utime + usage.ru_stime:.1f} s of CPU time, "
        f"at most {usage.ru_maxrss * 1024 / 1e6:.0f} MB"
    )
    labelled = counts["botnet"] + counts["normal"]
    expected = [
        f"{labelled} flows with labels, {counts[None]} of no class, {counts['unjoined']} unjoined",
        f"{counts['botnet']} flows of scenario=3 content=headers traffic=botnet family=rbot",
        f"{counts['normal']} flows of scenario=3 content=headers traffic=normal family=none",
    ]
    missing = [line for line in expected if line not in told]
    if status != 0 or missing:
        sys.exit(f"exit status {status}; missing in the output: {missing}")


if __name__ == "__main__":
    main()
