"""The SSH server of the kinds that go over SSH, and the options that vary a client."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from .host import Host
from .kind import Lab, listening, wait_until

CIPHERS = ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr"]
EXCHANGES = ["sntrup761x25519-sha512@openssh.com", "curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"]
MACS = ["umac-128-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"]


def serve(server: Host, lab: Lab) -> None:
    """sshd on four ports of the pool; its host key and the user's key are of this capture alone."""
    folder = server.folder
    keys = server.rng.choice([("ed25519", "ed25519"), ("ecdsa", "ed25519"), ("rsa", "ecdsa"), ("ed25519", "rsa")])
    for name, algorithm in zip(("host_key", "user_key"), keys):
        size = ["-b", "2048"] if algorithm == "rsa" else []
        subprocess.run(["ssh-keygen", "-q", "-t", algorithm, *size, "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    upload = folder / "upload"
    upload.mkdir(exist_ok=True)
    ports = "".join(f"ListenAddress {server.address}:{server.port(index)}\n" for index in range(4))
    (folder / "sshd_config").write_text(f"{ports}HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nUseDNS no\nPasswordAuthentication no\n"
                                        f"PidFile none\nMaxStartups 50\nSubsystem sftp {server.rng.choice(['internal-sftp', '/usr/lib/openssh/sftp-server'])}\nCompression {server.rng.choice(['yes', 'no'])}\nLogLevel INFO\n")
    # An empty home, in the namespace's own view of the file system: what this machine's root starts with a shell is not the lab's.
    home = folder / "home"
    home.mkdir(exist_ok=True)
    server.spawn(["sh", "-c", 'mount --bind "$0" "$1" && exec /usr/sbin/sshd -D -e -f "$2"', home, Path("~root").expanduser(), folder / "sshd_config"], log="sshd")
    wait_until(lambda: listening(server, server.port(0)), what="sshd")


def options(client: Host, server: Host, rng: random.Random) -> list[str]:
    """What ssh, sftp and scp have in common, the port excepted."""
    proxy = ["-o", f"ProxyCommand=nc -X 5 -x {client.proxy} %h %p"] if client.proxy else []
    return ["-i", str(server.folder / "user_key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-F", "/dev/null",
            "-o", f"Ciphers={rng.choice(CIPHERS)}", "-o", f"KexAlgorithms={rng.choice(EXCHANGES)}", "-o", f"MACs={rng.choice(MACS)}", "-o", f"Compression={rng.choice(['yes', 'no', 'no'])}", *proxy]


def files(lab: Lab, rng: random.Random, most: int = 4) -> list[Path]:
    """Some of the lab's files."""
    return rng.sample(sorted((lab.media / "files").iterdir()), rng.randrange(1, most + 1))
