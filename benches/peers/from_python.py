#!/usr/bin/env python3
"""Compares `etcbench.flows()` and `etcbench.packets()` with NFStream, dpkt and scapy in Python, on the same captures.

    pip install . pyarrow nfstream dpkt scapy
    python benches/peers/from_python.py                       # a generated capture of a million packets
    python benches/peers/from_python.py --packets 100000 more.pcap

Each runs in a separate process, pinned to two cores, all in turn, `--repeat` times. Imports are excluded from the time, except
for the command line (included in the package), whose whole process is timed. Prints medians.

Work of each: Flows with statistics: `etcbench.flows(packets=6, bytes=128)` as an Arrow table, the same work by the command line
in memory, and NFStream with statistical_analysis=True. First bytes of flows: `etcbench.flows(statistics=False)`, and dpkt and
scapy keeping the first 128 bytes of the first 6 packets of every five-tuple. Packets: `etcbench.packets(bytes=128)` as an Arrow
table, and dpkt and scapy building a list of time, addresses, ports, length and first 128 bytes. Also prints the number of TCP
and UDP packets that each has seen; that of NFStream is its own count. A peer is compared with the first row of its kind.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKETS, BYTES = 6, 128


def etcbench_flows(path, **options):
    import etcbench

    table = etcbench.flows(path, packets=PACKETS, bytes=BYTES, **options).to_arrow()
    return table.num_rows, None


def flows_with_statistics(path):
    return etcbench_flows(path)


def flows_without_statistics(path):
    return etcbench_flows(path, statistics=False)


def etcbench_packets(path):
    import etcbench

    return None, etcbench.packets(path, bytes=BYTES).to_arrow().num_rows


def nfstream(path):
    from nfstream import NFStreamer

    flows = packets = 0
    for flow in NFStreamer(source=path, statistical_analysis=True, idle_timeout=120, active_timeout=3600):
        flows += 1
        packets += flow.bidirectional_packets
    return flows, packets


def dpkt_layers(path):
    """Yields the time, the IP packet's bytes, and the IP and transport layers of TCP and UDP packets."""
    import dpkt

    with open(path, "rb") as file:
        for moment, frame in dpkt.pcap.Reader(file):
            try:
                ip = dpkt.ethernet.Ethernet(frame).data
            except dpkt.UnpackError:
                continue
            if isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)) and isinstance(ip.data, (dpkt.tcp.TCP, dpkt.udp.UDP)):
                yield moment, frame[len(frame) - len(bytes(ip)) :], ip, ip.data


def dpkt_flows(path):
    flows, packets = {}, 0
    for _, content, ip, transport in dpkt_layers(path):
        packets += 1
        ends = sorted([(ip.src, transport.sport), (ip.dst, transport.dport)])
        kept = flows.setdefault((type(transport), *ends), [])
        if len(kept) < PACKETS:
            kept.append(content[:BYTES])
    return len(flows), packets


def dpkt_packets(path):
    rows = [
        (moment, ip.src, transport.sport, ip.dst, transport.dport, len(content), content[:BYTES])
        for moment, content, ip, transport in dpkt_layers(path)
    ]
    return None, len(rows)


def scapy_layers(path):
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.utils import PcapReader

    with PcapReader(path) as reader:
        for packet in reader:
            ip = packet.getlayer(IP) or packet.getlayer(IPv6)
            transport = ip and (ip.getlayer(TCP) or ip.getlayer(UDP))
            if transport:
                yield packet.time, ip.original, ip, transport


def scapy_flows(path):
    flows, packets = {}, 0
    for _, content, ip, transport in scapy_layers(path):
        packets += 1
        ends = sorted([(ip.src, transport.sport), (ip.dst, transport.dport)])
        kept = flows.setdefault((transport.name, *ends), [])
        if len(kept) < PACKETS:
            kept.append(content[:BYTES])
    return len(flows), packets


def scapy_packets(path):
    rows = [
        (moment, ip.src, transport.sport, ip.dst, transport.dport, len(content), content[:BYTES])
        for moment, content, ip, transport in scapy_layers(path)
    ]
    return None, len(rows)


#: By kind: the modules imported before timing starts, and the function to time; others are compared with the first of
# a kind.
CONTENDERS = {
    "flows with statistics": {
        "etcbench.flows": (["etcbench", "pyarrow"], flows_with_statistics),
        "etcbench features (command line)": None,
        "NFStream": (["nfstream"], nfstream),
    },
    "first bytes of flows": {
        "etcbench.flows(statistics=False)": (["etcbench", "pyarrow"], flows_without_statistics),
        "dpkt": (["dpkt"], dpkt_flows),
        "scapy": (["scapy.layers.inet", "scapy.layers.inet6"], scapy_flows),
    },
    "packets": {
        "etcbench.packets": (["etcbench", "pyarrow"], etcbench_packets),
        "dpkt": (["dpkt"], dpkt_packets),
        "scapy": (["scapy.layers.inet", "scapy.layers.inet6"], scapy_packets),
    },
}


def child(kind, name, path):
    """Runs one contender and prints wall and CPU seconds without imports, and the flows and packets it has seen."""
    modules, work = CONTENDERS[kind][name]
    for module in modules:
        __import__(module)
    usage = [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN]
    before = sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, usage))
    start = time.perf_counter()
    flows, packets = work(path)
    wall = time.perf_counter() - start
    cpu = sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, usage)) - before
    print("TIMES", wall, cpu, flows if flows is not None else "-", packets if packets is not None else "-")


def run(kind, name, path, program):
    """Returns the wall and CPU seconds, the peak memory in bytes, and the counts of one contender."""
    command = [sys.executable, __file__, "--child", kind, name, path]
    if CONTENDERS[kind][name] is None:
        command = [program, "features", path, "--packets", str(PACKETS), "--bytes", str(BYTES)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {status}")
    seen = ["-", "-"]
    if "TIMES" in output:
        wall, cpu, *seen = output.split("TIMES")[1].split()[:4]
    return float(wall), float(cpu), usage.ru_maxrss * 1024, seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", help="Ethernet captures in pcap format (dpkt's reader supports no other)")
    parser.add_argument("--packets", type=int, default=1_000_000, help="packets of the generated capture; 0 for none")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="peers to leave out, such as scapy")
    parser.add_argument("--folder", help="for the generated capture; a temporary folder by default")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child)
    program = str(Path(sys.executable).with_name("etcbench"))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        captures = list(arguments.captures)
        if arguments.packets:
            path = os.path.join(folder, "synth.pcap")
            synth = [program, "data", "synth", "--packets", str(arguments.packets), "-o", path]
            subprocess.run(synth, check=True, stderr=subprocess.DEVNULL)
            captures.insert(0, path)
        for path in captures:
            print(f"\n{os.path.basename(path)}: {os.path.getsize(path)} bytes, median of {arguments.repeat}\n")
            print("| what | with | wall s | cpu s | MB | wall / ours | cpu / ours | flows | packets |\n|---|---|---|---|---|---|---|---|---|")
            times = {}
            for _ in range(arguments.repeat):
                for kind, contenders in CONTENDERS.items():
                    for name in contenders:
                        if name not in arguments.without:
                            times.setdefault((kind, name), []).append(run(kind, name, path, program))
            ours = {}
            for (kind, name), runs in times.items():
                wall, cpu, memory = (statistics.median(column) for column in list(zip(*runs))[:3])
                first = ours.setdefault(kind, (wall, cpu))
                ratios = ["", ""] if first == (wall, cpu) else [f"{wall / first[0]:.2f}", f"{cpu / first[1]:.2f}"]
                cells = [kind, name, f"{wall:.2f}", f"{cpu:.2f}", f"{memory / 1e6:.0f}", *ratios, *runs[0][3]]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
