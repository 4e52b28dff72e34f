"""The web server of the kinds that speak HTTPS: nginx with the ports, TLS versions and ciphers that a seed draws."""

from __future__ import annotations

import random

from .host import Host
from .kind import Lab, listening, wait_until

TLS12_CIPHERS = ["ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"]


def serve(server: Host, lab: Lab, plain: bool = False) -> None:
    """Offers the lab's media at four TLS ports: 0 is TLS 1.2 and 1.3 with HTTP/2, 1 TLS 1.2 alone, 2 TLS 1.3 alone with HTTP/1.1,
    3 TLS 1.2 with HTTP/2; with `plain` also HTTP without TLS at 80."""
    certificate, key = lab.certificate(server)
    folder = server.folder
    ports = [(0, "TLSv1.2 TLSv1.3", True), (1, "TLSv1.2", False), (2, "TLSv1.3", False), (3, "TLSv1.2", True)]
    blocks = [
        f"server {{ listen {server.address}:{server.port(index)} ssl{' http2' if http2 else ''}; ssl_protocols {protocols}; ssl_ciphers {server.rng.choice(TLS12_CIPHERS)}; "
        f"gzip {server.rng.choice(['on', 'off'])}; keepalive_timeout {server.rng.choice([5, 20, 65])}; root {lab.media}; location / {{ try_files $uri /site$uri =404; }} }}"
        for index, protocols, http2 in ports
    ]
    if plain:
        blocks.append(f"server {{ listen {server.address}:80; root {lab.media}; location / {{ try_files $uri /site$uri =404; }} }}")
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log; events {{ worker_connections 512; }}\n"
        f"http {{ access_log {folder}/nginx-access.log; {temporary} types {{ text/html html; text/css css; application/javascript js mjs; image/png png; application/vnd.apple.mpegurl m3u8; "
        f"video/mp2t ts; video/mp4 mp4 m4s; application/dash+xml mpd; }} ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_tickets {server.rng.choice(['on', 'off'])};\n" + "\n".join(blocks) + "\n}\n"
    )
    server.spawn(["nginx", "-p", folder, "-c", folder / "nginx.conf"], log="nginx")
    wait_until(lambda: listening(server, server.port(0)), what="nginx")


def address(client: Host, server: Host, rng: random.Random, index: int | None = None) -> str:
    """The start of an address there: by name, or over Tor by number, since exits know no names here."""
    index = rng.choice([0, 0, 1, 2, 3]) if index is None else index
    return f"https://{server.address if client.proxy else server.hostname}:{server.port(index)}"


def page(rng: random.Random) -> str:
    """The path of some page."""
    return f"/page-{rng.randrange(60):02d}.html"
