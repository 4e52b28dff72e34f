"""Cutting captures to what classifiers of first packets need: of each flow the first packets, of each packet the first bytes.

A flow here is a five-tuple in both directions, and a new TCP SYN after an end of the connection begins another. Later packets are
kept shorter than early ones, since experiments read many bytes only of the first packets; `orig_len` stays that of the wire.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

PACKETS = 32
SNAP_LENGTH = 320
# Bytes kept of a packet by its number in the flow: fewer of the later ones, of which experiments read few.
TAPER = ((16, SNAP_LENGTH), (PACKETS, 160))
LINK_ETHERNET, LINK_RAW = 1, 101


@dataclass
class Cut:
    """What was kept."""

    link_type: int = LINK_ETHERNET
    packets: list = field(default_factory=list)
    flows: int = 0
    seen_packets: int = 0
    outside_windows: int = 0


def read(path: Path):
    """The link type and the packets (time in µs, captured bytes, original length) of a pcap file with microsecond times."""
    data = path.read_bytes()
    if len(data) < 24:
        return LINK_ETHERNET, []
    if data[:4] != b"\xd4\xc3\xb2\xa1":
        raise ValueError(f"{path} is not a little-endian microsecond pcap")
    link_type = struct.unpack_from("<I", data, 20)[0] & 0xFFFF
    packets, at = [], 24
    while at + 16 <= len(data):
        seconds, micros, kept, length = struct.unpack_from("<IIII", data, at)
        if at + 16 + kept > len(data):
            break
        packets.append((seconds * 1_000_000 + micros, data[at + 16 : at + 16 + kept], length))
        at += 16 + kept
    return link_type, packets


def flow_key(link_type: int, packet: bytes):
    """The five-tuple, the same in both directions, and the TCP flags; None for what is not IPv4 or a later fragment."""
    at = 0
    if link_type == LINK_ETHERNET:
        if packet[12:14] != b"\x08\x00":
            return None
        at = 14
    if len(packet) < at + 20 or packet[at] >> 4 != 4:
        return None
    header = (packet[at] & 15) * 4
    if struct.unpack_from(">H", packet, at + 6)[0] & 0x1FFF:
        return None
    protocol = packet[at + 9]
    source, destination = packet[at + 12 : at + 16], packet[at + 16 : at + 20]
    flags, ports = 0, (0, 0)
    transport = at + header
    if protocol in (6, 17) and len(packet) >= transport + 4:
        ports = struct.unpack_from(">HH", packet, transport)
        if protocol == 6 and len(packet) >= transport + 14:
            flags = packet[transport + 13]
    ends = sorted([(source, ports[0]), (destination, ports[1])])
    return (protocol, ends[0], ends[1]), flags


def cut(paths: list[Path], windows: list[tuple[float, float]], longest_flows: int | None = None, running: bool = False) -> Cut:
    """Cuts the captures at `paths`, in their order in time, into one. Flows that begin outside `windows` (seconds of the epoch)
    are left out whole; `longest_flows` bounds how many flows are kept. With `running` a flow begins where its window does: what
    carries a session may have been there before it, as a client's tor is."""
    result = Cut()
    kept_packets = []
    state: dict = {}
    spans = [(int(start * 1e6), int(end * 1e6)) for start, end in windows]
    for path in paths:
        link_type, packets = read(path)
        if packets:
            result.link_type = link_type
        for at, packet, length in packets:
            result.seen_packets += 1
            if running and not any(start <= at <= end for start, end in spans):
                continue
            found = flow_key(link_type, packet)
            if found is None:
                continue
            key, flags = found
            flow = state.get(key)
            # SYN alone: a new connection; the one before has ended if it has sent FIN or RST.
            if flow is None or (key[0] == 6 and flags & 0x12 == 0x02 and flow["ended"]):
                inside = any(start <= at <= end for start, end in spans)
                # The middle of a connection that began before is nobody's beginning.
                if key[0] == 6 and flags & 0x02 == 0 and not running:
                    inside = False
                if inside and longest_flows is not None and result.flows >= longest_flows:
                    inside = False
                flow = state[key] = {"count": 0, "keep": inside, "ended": False}
                # Other protocols' packets are kept as they are and are no flows.
                result.flows += inside and key[0] in (6, 17)
                result.outside_windows += not inside
            if flags & 0x05:
                flow["ended"] = True
            if not flow["keep"] or flow["count"] >= PACKETS:
                continue
            flow["count"] += 1
            snap = next(snap for number, snap in TAPER if flow["count"] <= number)
            kept_packets.append((at, packet[:snap], length))
    kept_packets.sort(key=lambda packet: packet[0])
    result.packets = kept_packets
    return result


def write(path: Path, result: Cut) -> None:
    """Writes a cut capture as pcap."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP_LENGTH, result.link_type)]
    for at, packet, length in result.packets:
        parts.append(struct.pack("<IIII", at // 1_000_000, at % 1_000_000, len(packet), length))
        parts.append(packet)
    path.write_bytes(b"".join(parts))
