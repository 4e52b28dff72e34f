#!/usr/bin/env python3
"""Compares `etcbench features` with NFStream, dpkt, tshark and nfpcapd on the same captures, run alternately.

    pip install nfstream dpkt            # tshark comes with Wireshark, nfpcapd with nfdump
    cargo build --release
    python benches/peers/capture.py                           # a generated capture of 300,000 packets
    python benches/peers/capture.py --packets 1000000 more.pcap
    python benches/peers/capture.py --packets 1000000 --threads 1 --only nfpcapd
    python benches/peers/capture.py --memory                  # etcbench's peak memory for 1, 10 and 100 million packets

Each runs in a separate process, pinned to two cores. The time of the Python peers excludes interpreter start and imports;
that of etcbench is the whole process. Prints medians, with packets per second of wall time and CPU seconds (user and
system), which are less affected by other load on the machine.

Work of each: etcbench: flows, 91 statistics, the first 248 bytes of the first 6 packets, written as Parquet; "in memory":
the same with 128 bytes and without the file, since the peers write none; "bytes in memory": that without statistics.
NFStream: flows with statistical_analysis=True. dpkt: the first 128 bytes of the first 6 packets of every five-tuple, no
statistics. tshark: `-q -z conv,tcp -z conv,udp`, counters per conversation. nfpcapd: NetFlow records in a folder, without
statistics and bytes of packets. dpkt is compared with "bytes in memory", the
other peers with "in memory".
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKETS, BYTES = 6, 128
# The row of etcbench that does the same work as a peer.
COMPARED = {
    "nfstream": "etcbench, in memory",
    "dpkt": "etcbench, bytes in memory",
    "tshark": "etcbench, in memory",
    "nfpcapd": "etcbench, in memory",
}


def nfstream(path):
    from nfstream import NFStreamer

    packets = 0
    for flow in NFStreamer(source=path, statistical_analysis=True, idle_timeout=120, active_timeout=3600):
        packets += flow.bidirectional_packets
    return packets


def dpkt(path):
    import dpkt

    flows = {}
    count = 0
    with open(path, "rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            count += 1
            try:
                ip = dpkt.ethernet.Ethernet(frame).data
            except dpkt.UnpackError:
                continue
            if not isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)) or not isinstance(ip.data, (dpkt.tcp.TCP, dpkt.udp.UDP)):
                continue
            ends = sorted([(ip.src, ip.data.sport), (ip.dst, ip.data.dport)])
            kept = flows.setdefault((type(ip.data), *ends), [])
            if len(kept) < PACKETS:
                start = len(frame) - len(bytes(ip))
                kept.append(frame[start : start + BYTES])
    return count


def child(name, path):
    """Runs a Python peer and prints its wall and CPU time, without imports."""
    __import__(name)
    before = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    {"nfstream": nfstream, "dpkt": dpkt}[name](path)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after))
    print("TIMES", wall, cpu)


def run(command, python=False):
    """Returns the wall seconds, CPU seconds and peak memory in bytes of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {status}")
    cpu = usage.ru_utime + usage.ru_stime
    if python:
        wall, cpu = map(float, output.split("TIMES")[1].split()[:2])
    return wall, cpu, usage.ru_maxrss * 1024


def contenders(etcbench, path, output, threads):
    here = [sys.executable, __file__, "--child"]
    features = [etcbench, "--threads", str(threads), "features", path]
    in_memory = [*features, "--packets", str(PACKETS), "--bytes", str(BYTES)]
    return {
        "etcbench": ([*features, "-o", output], False),
        "etcbench, in memory": (in_memory, False),
        "etcbench, bytes in memory": ([*in_memory, "--no-statistics"], False),
        "nfstream": ([*here, "nfstream", path], True),
        "dpkt": ([*here, "dpkt", path], True),
        "tshark": (["tshark", "-n", "-r", path, "-q", "-z", "conv,tcp", "-z", "conv,udp"], False),
        "nfpcapd": (["nfpcapd", "-r", path, "-w", os.path.dirname(output)], False),
    }


def packets_of(etcbench, path, output):
    told = subprocess.run([etcbench, "features", path, "-o", output], capture_output=True, text=True, check=True).stderr
    return int(told.split(" flows; ")[1].split(" packets")[0])


def compare(etcbench, captures, repeat, folder, only, threads):
    output = os.path.join(folder, "flows.parquet")
    for path in captures:
        packets = packets_of(etcbench, path, output)
        times = {}
        for _ in range(repeat):
            for name, (command, python) in contenders(etcbench, path, output, threads).items():
                if only and not name.startswith("etcbench") and name not in only:
                    continue
                times.setdefault(name, []).append(run(command, python))
        print(f"\n{os.path.basename(path)}: {packets} packets, {os.path.getsize(path)} bytes, median of {repeat}\n")
        print("| | wall s | packets/s | cpu s | MB | wall / ours | cpu / ours |")
        print("|---|---|---|---|---|---|---|")
        median = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in times.items()}
        for name, (wall, cpu, memory) in median.items():
            ours = median[name if name.startswith("etcbench") else COMPARED[name]]
            print(
                f"| {name} | {wall:.2f} | {packets / wall:,.0f} | {cpu:.2f} | {memory / 1e6:.0f} "
                f"| {wall / ours[0]:.1f} | {cpu / ours[1]:.1f} |",
                flush=True,
            )


def memory(etcbench, folder, millions):
    """Measures etcbench's peak memory for captures that are generated while they are read, without a disk."""
    output = os.path.join(folder, "flows.parquet")
    print("| packets | flows | wall s | cpu s | peak MB |\n|---|---|---|---|---|")
    for packets in (round(million * 1e6) for million in millions):
        synth = [etcbench, "data", "synth", "--packets", str(packets), "-o", "/dev/stdout"]
        source = subprocess.Popen(synth, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        reader = [etcbench, "--threads", "2", "features", "/dev/stdin", "-o", output]
        start = time.perf_counter()
        process = subprocess.Popen(reader, stdin=source.stdout, stderr=subprocess.PIPE, text=True)
        source.stdout.close()
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status != 0 or source.wait() != 0:
            sys.exit(f"{' '.join(reader)}: exit status {status}: {told}")
        flows = int(re.search(r"(\d+) flows; ", told)[1])
        peak = usage.ru_maxrss * 1024 / 1e6
        print(f"| {packets:,} | {flows:,} | {wall:.1f} | {usage.ru_utime + usage.ru_stime:.1f} | {peak:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", help="Ethernet captures in pcap format (dpkt's reader supports no other)")
    parser.add_argument("--etcbench", default=str(ROOT / "target/release/etcbench"))
    parser.add_argument("--packets", type=int, default=300_000, help="packets of the generated capture; 0 for none")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], choices=["nfstream", "dpkt", "tshark", "nfpcapd"])
    parser.add_argument("--threads", type=int, default=2, help="of etcbench")
    parser.add_argument("--memory", nargs="*", type=float, metavar="MILLIONS", help="measure memory; default 1, 10 and 100")
    parser.add_argument("--folder", help="for the generated captures; a temporary folder by default")
    parser.add_argument("--child", choices=["nfstream", "dpkt"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.captures[0])
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.memory is not None:
            memory(arguments.etcbench, folder, arguments.memory or [1, 10, 100])
            return
        captures = list(arguments.captures)
        if arguments.packets:
            path = os.path.join(folder, "synth.pcap")
            run([arguments.etcbench, "data", "synth", "--packets", str(arguments.packets), "-o", path])
            captures.insert(0, path)
        compare(arguments.etcbench, captures, arguments.repeat, folder, arguments.only, arguments.threads)


if __name__ == "__main__":
    main()
