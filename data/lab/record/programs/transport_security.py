"""TLS contexts of the lab's own client programs, and the options that all of them share."""

import argparse
import ssl

TLS12_CIPHERS = [
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
    "DEFAULT",
]


def arguments(description: str) -> argparse.ArgumentParser:
    """Options of every client: where the server is, whom to trust, for how long, and which TLS to speak."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", required=True, help="IPv4 address of the server")
    parser.add_argument("--hostname", required=True, help="name in the server's certificate")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--authority", required=True, help="certificate of the authority, PEM")
    parser.add_argument("--seconds", type=float, required=True, help="how long the session lasts")
    parser.add_argument("--seed", required=True)
    parser.add_argument("--tls", choices=["1.2", "1.3"], default="1.3")
    return parser


def client_context(authority: str, version: str, rng, alpn: list[str] | None = None) -> ssl.SSLContext:
    """A verifying context that speaks this version of TLS alone; for 1.2 the cipher suites are drawn."""
    context = ssl.create_default_context(cafile=authority)
    if version == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(rng.choice(TLS12_CIPHERS))
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if alpn:
        context.set_alpn_protocols(alpn)
    return context
