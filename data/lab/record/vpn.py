"""The VPNs: OpenVPN over UDP and over TCP, WireGuard by wireguard-go. One gateway host beside the servers; the client's end is
started anew for every session, so that a session is a flow of its own outside the tunnel too. The programs' host has nothing but
the tunnel's interface; the tunnel's own packets leave from a second namespace, the uplink."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from pathlib import Path

from .host import Host
from .kind import Lab, wait_until
from .network import MTUS, Network

NUMBERS = itertools.count()
PROTOCOLS = ("openvpn_udp", "openvpn_tcp", "wireguard")


class Vpn:
    """A gateway with its server end running, and a client's end to bring up and down."""

    def __init__(self, protocol: str, network: Network, client: Host, uplink: Host, server: Host, gateway: Host, lab: Lab, rng: random.Random):
        self.protocol, self.client, self.uplink, self.server, self.gateway, self.lab, self.rng = protocol, client, uplink, server, gateway, lab, rng
        self.inner = inner = client.address
        # Inner addresses are of the same pool as outer ones: inside and outside must not be told apart by them.
        self.inner_gateway = inner.rsplit(".", 1)[0] + ".1"
        network.route(inner, gateway)
        self.port = gateway.port(0)
        self.mtu = rng.choice(MTUS)
        # WireGuard's own header needs room on the outer link.
        self.inner_mtu = min(self.mtu, 1420) if protocol == "wireguard" else self.mtu
        self.running: list[subprocess.Popen] = []
        if protocol == "wireguard":
            self._serve_wireguard()
        else:
            self.interface = "tun0"
            self._serve_openvpn()

    def up(self) -> str:
        """Brings the client's end up; gives the interface inside the tunnel."""
        if self.protocol == "wireguard":
            self._wireguard(self.uplink, "client", None)
        else:
            log = self.uplink.folder / "openvpn.log"
            log.unlink(missing_ok=True)
            self.running.append(self.uplink.spawn(["openvpn", "--config", self.gateway.folder / "client.conf"], log="openvpn"))
            wait_until(lambda: log.exists() and b"Initialization Sequence Completed" in log.read_bytes(), 20, "OpenVPN")
        subprocess.run(["ip", "-n", self.uplink.namespace, "link", "set", self.interface, "netns", self.client.namespace], check=True, capture_output=True)
        batch = f"addr add {self.inner}/32 dev {self.interface}\nlink set {self.interface} mtu {self.inner_mtu} up\nroute add default dev {self.interface}\n"
        subprocess.run(["ip", "-n", self.client.namespace, "-batch", "-"], check=True, capture_output=True, text=True, input=batch)
        wait_until(lambda: self.client.run(["ping", "-q", "-c", "1", "-W", "0.4", self.server.address], check=False).returncode == 0, 20, "the tunnel")
        return self.interface

    def down(self) -> None:
        """Takes the client's end down."""
        for process in self.running:
            self.uplink.stop(process)
        self.running.clear()
        time.sleep(0.05)

    def _serve_openvpn(self) -> None:
        folder, transport = self.gateway.folder, self.protocol.split("_")[1]
        certificate, key = self.lab.certificate(self.gateway)
        client_certificate, client_key = self.lab.certificate(self.uplink)
        subprocess.run(["openvpn", "--genkey", "tls-crypt", str(folder / "tls-crypt.key")], check=True, capture_output=True)
        network = self.inner.rsplit(".", 1)[0] + ".0"
        (folder / "ccd").mkdir(exist_ok=True)
        (folder / "ccd" / self.uplink.hostname).write_text(f"ifconfig-push {self.inner} 255.255.255.0\n")
        ciphers = self.rng.choice(["AES-256-GCM", "AES-128-GCM", "CHACHA20-POLY1305"])
        minimum = self.rng.choice(["1.2", "1.3"])
        common = f"dev tun0\ndev-type tun\nca {self.lab.authority}\ntls-crypt {folder}/tls-crypt.key\ndata-ciphers {ciphers}\nverb 3\ntun-mtu {self.mtu}\ntls-version-min {minimum}\n"
        server = (f"{common}proto {'udp' if transport == 'udp' else 'tcp-server'}\nport {self.port}\nlocal {self.gateway.address}\nserver {network} 255.255.255.0 nopool\ntopology subnet\n"
                  f"client-config-dir {folder}/ccd\ncert {certificate}\nkey {key}\ndh none\nkeepalive 5 30\n")
        client = (f"{common}client\nifconfig-noexec\nroute-noexec\nproto {'udp' if transport == 'udp' else 'tcp-client'}\nremote {self.gateway.address} {self.port}\nnobind\nremote-cert-tls server\n"
                  f"cert {client_certificate}\nkey {client_key}\n")
        (folder / "server.conf").write_text(server)
        (folder / "client.conf").write_text(client)
        self.gateway.spawn(["openvpn", "--config", folder / "server.conf"], log="openvpn")
        log = folder / "openvpn.log"
        wait_until(lambda: log.exists() and b"Initialization Sequence Completed" in log.read_bytes(), 20, "OpenVPN's server")

    def _serve_wireguard(self) -> None:
        self.keys = {}
        for end in ("client", "gateway"):
            private = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout.strip()
            public = subprocess.run(["wg", "pubkey"], check=True, capture_output=True, text=True, input=private).stdout.strip()
            self.keys[end] = (private, public)
        self._wireguard(self.gateway, "gateway", self.port)

    def _wireguard(self, host: Host, end: str, port: int | None) -> None:
        # Its control socket is named after the interface and lies outside the namespace: every interface its own name.
        interface = f"wg{os.getpid()}-{next(NUMBERS)}"
        process = host.spawn(["wireguard-go", "-f", interface], log="wireguard", env={"WG_PROCESS_FOREGROUND": "1", "GOMAXPROCS": "1"})
        if end == "client":
            self.running.append(process)
            self.interface = interface
        wait_until(lambda: subprocess.run(["ip", "-n", host.namespace, "link", "show", interface], capture_output=True).returncode == 0, 10, "wireguard-go")
        peer = self.keys["gateway" if end == "client" else "client"][1]
        private: Path = host.folder / "wireguard.key"
        private.write_text(self.keys[end][0])
        words = ["wg", "set", interface, "private-key", private] + (["listen-port", port] if port else []) + ["peer", peer, "allowed-ips", "0.0.0.0/0"]
        if end == "client":
            words += ["endpoint", f"{self.gateway.address}:{self.port}"]
        host.run(words)
        if end == "gateway":
            batch = f"link set {interface} mtu {self.inner_mtu} up\naddr add {self.inner_gateway}/32 dev {interface}\nroute add {self.inner} dev {interface}\n"
            subprocess.run(["ip", "-n", host.namespace, "-batch", "-"], check=True, capture_output=True, text=True, input=batch)
