"""A host: one network namespace with an address, a scratch folder and the processes that run in it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

# Set when the recorder ends before its time: threads that still record start nothing more.
ENDING = threading.Event()

# One pool for every kind of server, so that a port does not name a class.
PORT_POOL = [443, 8443, 4443, 2443, 9443, 7443, 5443, 6443, 10443, 3443, 5061, 5223, 6697, 8883, 990, 993, 995, 465, 22, 2222, 8022, 9022, 5349, 1443]

# Names of servers by the last byte of their address; whoever serves what is drawn by seed.
NAMES = ["alder", "birch", "cedar", "damson", "elm", "fir", "gorse", "hazel", "ivy", "juniper", "larch", "maple", "oak", "pine", "rowan", "willow"]


def hostname_of(address: str) -> str:
    """The name that /etc/hosts inside the namespaces gives to this address."""
    last = int(address.rsplit(".", 1)[1])
    return f"{NAMES[last % len(NAMES)]}{last}.example"


class Host:
    """One network namespace. `address` is its IPv4 address, `folder` its scratch folder, `proxy` None or "ip:port" of a SOCKS5 proxy."""

    def __init__(self, name: str, namespace: str, address: str, folder: Path, rng: random.Random):
        self.name = name
        self.namespace = namespace
        self.address = address
        self.folder = folder
        self.rng = rng
        self.proxy: str | None = None
        self.hostname = hostname_of(address)
        self.processes: list[subprocess.Popen] = []
        self._ports = rng.sample(PORT_POOL, len(PORT_POOL))
        folder.mkdir(parents=True, exist_ok=True)
        # Servers drop root and must still reach their files.
        folder.chmod(0o755)

    def port(self, index: int = 0) -> int:
        """The index-th of this host's ports: drawn from one pool for all kinds."""
        return self._ports[index]

    def _wrapped(self, argv) -> list[str]:
        if ENDING.is_set():
            raise RuntimeError("the recorder is ending")
        return ["ip", "netns", "exec", self.namespace, *map(str, argv)]

    def spawn(self, argv, env=None, cwd=None, log: str = "process") -> subprocess.Popen:
        """Starts a program in the namespace; output goes to LOG.log in the folder. It is killed with its process group at the end."""
        with open(self.folder / f"{log}.log", "ab") as out:
            process = subprocess.Popen(
                self._wrapped(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd or self.folder,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, argv, timeout: float = 30, env=None, cwd=None, input=None, check: bool = True) -> subprocess.CompletedProcess:
        """Runs a program in the namespace to its end. TimeoutExpired after `timeout` seconds, with its process group killed;
        CalledProcessError where `check` is set and it fails."""
        process = subprocess.Popen(
            self._wrapped(argv),
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd or self.folder,
            start_new_session=True,
        )
        if isinstance(input, str):
            input = input.encode()
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise
        finally:
            if process.poll() is None:
                kill_group(process)
        done = subprocess.CompletedProcess(argv, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        return done

    def stop(self, process: subprocess.Popen, grace: float = 2.0) -> None:
        """Ends one spawned program: SIGTERM to its group, SIGKILL after `grace` seconds."""
        signal_group(process, signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        kill_group(process)
        if process in self.processes:
            self.processes.remove(process)

    def stop_all(self) -> None:
        """Ends every program of the namespace, those that put themselves into the background too."""
        for process in self.processes:
            signal_group(process, signal.SIGTERM)
        end = time.monotonic() + 1.0
        while time.monotonic() < end and any(process.poll() is None for process in self.processes):
            time.sleep(0.02)
        for process in self.processes:
            kill_group(process)
        self.processes.clear()
        kill_namespace(self.namespace)


def signal_group(process: subprocess.Popen, number: int) -> None:
    """Sends a signal to a program and its process group, if they are still there."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill_group(process: subprocess.Popen) -> None:
    """Kills a program and its process group and collects it."""
    signal_group(process, signal.SIGKILL)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass


def kill_namespace(namespace: str) -> None:
    """Kills every process in a network namespace."""
    for _ in range(10):
        listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
        pids = [int(word) for word in listed.stdout.split()]
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
