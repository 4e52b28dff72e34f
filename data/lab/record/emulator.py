"""Link emulator: two TAP devices, each in its own namespace, joined with delay, jitter, loss and a rate.

The kernels this runs on often lack netem, so packets pass through this program. A packet waits for the ones before it
(rate, in both directions separately; drop-tail queue), then for the delay and a jitter that never reorders. It has passed so many
routers when it leaves.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
CLONE_NEWNET = 0x40000000


def open_tap(namespace: str, name: str) -> int:
    """A TAP device inside a named network namespace; this process stays in that namespace."""
    with open(f"/run/netns/{namespace}", "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def farther(frame: bytes, hops: int) -> bytes | None:
    """The frame behind so many more routers: its IPv4 time to live is less by `hops`, the header's checksum fits; None where it died."""
    if frame[12:14] != b"\x08\x00" or hops == 0:
        return frame
    if frame[22] <= hops:
        return None
    changed = bytearray(frame)
    changed[22] -= hops
    # The checksum is a complement: what the sum of the header's words loses, it gains, with the carry added (RFC 1624).
    total = struct.unpack_from(">H", frame, 24)[0] + (hops << 8)
    struct.pack_into(">H", changed, 24, (total & 0xFFFF) + (total >> 16))
    return bytes(changed)


class Direction:
    """One direction of the link: packets read from `source` are written to `target` when their time has come."""

    def __init__(self, source: int, target: int, link: dict, rng: random.Random):
        self.source, self.target, self.link, self.rng = source, target, link, rng
        self.queue: deque = deque()
        self.free_at = 0.0
        self.last_release = 0.0

    def take(self, now: float) -> None:
        """Reads what has arrived and gives each packet its time of release."""
        link = self.link
        for _ in range(64):
            try:
                packet = os.read(self.source, 65536)
            except BlockingIOError:
                return
            if self.rng.random() < link["loss"] or (packet := farther(packet, link["hops"])) is None:
                continue
            # Drop-tail: what would wait longer than the queue holds is lost.
            if self.free_at - now > link["queue"]:
                continue
            self.free_at = max(self.free_at, now) + len(packet) * 8 / link["rate"]
            release = self.free_at + link["delay"] + abs(self.rng.gauss(0.0, 1.0)) * link["jitter"]
            self.last_release = release = max(release, self.last_release)
            self.queue.append((release, packet))

    def give(self, now: float) -> None:
        """Writes every packet whose time has come."""
        while self.queue and self.queue[0][0] <= now:
            try:
                os.write(self.target, self.queue.popleft()[1])
            except OSError:
                pass


def main() -> None:
    """Arguments: one JSON object with `a` and `b` (namespace, device), delay, jitter, queue (s), rate (bit/s), loss, hops, seed."""
    link = json.loads(sys.argv[1])
    first = open_tap(*link["a"])
    second = open_tap(*link["b"])
    rng = random.Random(link["seed"])
    directions = [Direction(first, second, link, rng), Direction(second, first, link, rng)]
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        waits = [direction.queue[0][0] - now for direction in directions if direction.queue]
        ready, _, _ = select.select([first, second], [], [], max(0.0, min(waits)) if waits else None)
        now = time.monotonic()
        for direction in directions:
            if direction.source in ready:
                direction.take(now)
            direction.give(now)


if __name__ == "__main__":
    main()
