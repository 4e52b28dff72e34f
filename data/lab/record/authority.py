"""The throw-away TLS authority of a recording, and the certificates of its servers."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path


def _openssl(*arguments) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def create(folder: Path) -> tuple[Path, Path]:
    """Makes an authority in `folder`; gives its certificate and key."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "authority.pem", folder / "authority-key.pem"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30, "-subj", "/CN=Throw-away authority",
             "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", certificate)
    return certificate, key


def issue(authority: Path, authority_key: Path, folder: Path, hostname: str, address: str, rng) -> tuple[Path, Path]:
    """A certificate (with its chain) and key for a server: RSA or elliptic, as drawn."""
    ipaddress.ip_address(address)
    certificate, key, request = folder / "server.pem", folder / "server-key.pem", folder / "server.csr"
    algorithm = rng.choice([("rsa:2048",), ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")])
    _openssl("req", "-new", "-newkey", *algorithm, "-nodes", "-subj", f"/CN={hostname}", "-keyout", key, "-out", request)
    extensions = folder / "server.ext"
    extensions.write_text(f"subjectAltName=DNS:{hostname},IP:{address}\nbasicConstraints=CA:FALSE\n"
                          "keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n")
    _openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-set_serial", rng.getrandbits(64), "-days", 20,
             "-extfile", extensions, "-out", certificate)
    if rng.random() < 0.5:
        certificate.write_text(certificate.read_text() + authority.read_text())
    key.chmod(0o644)
    return certificate, key
