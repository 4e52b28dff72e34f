"""Capturing on one interface of one host with tcpdump."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from .host import Host, kill_group

SNAP_LENGTH = 320


class Capture:
    """A running tcpdump. Ends with `stop`, which leaves a whole file."""

    def __init__(self, host: Host, interface: str, path: Path):
        self.path = path
        # -U: packets are in the file when they are seen. -Z root: it must be able to write into our folder.
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", host.namespace, "tcpdump", "-i", interface, "-s", str(SNAP_LENGTH), "-n", "-U", "-B", "8192", "-Z", "root", "--immediate-mode", "-w", str(path), "ip"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )
        line = self.process.stderr.readline()
        while line and b"listening on" not in line:
            line = self.process.stderr.readline()
        if not line:
            raise RuntimeError(f"tcpdump on {interface} of {host.name} did not start")

    def stop(self, settle: float = 0.1) -> int:
        """Ends the capture; gives how many packets tcpdump missed."""
        time.sleep(settle)
        self.process.send_signal(signal.SIGINT)
        try:
            _, errors = self.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            kill_group(self.process)
            return 0
        for line in errors.decode(errors="replace").splitlines():
            if "dropped by kernel" in line:
                return int(line.split()[0])
        return 0
