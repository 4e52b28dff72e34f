"""Video by RTSP: GStreamer's RTSP server, ffmpeg as the player; RTP over UDP, inside the RTSP connection, or all of it inside TLS."""

from __future__ import annotations

import random

from .. import audiovisual
from ..host import Host
from ..kind import Kind, Lab, listening, wait_until
from ..torsocks import through_proxy

KIND = Kind(
    name="video_rtsp",
    category="video",
    application="rtsp",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("python3-gi", "gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-good", "gstreamer1.0-plugins-bad", "glib-networking", "ffmpeg", "torsocks"),
)

prepare = audiovisual.folder


def serve(server: Host, lab: Lab) -> None:
    """The RTSP server on two ports, the second with TLS."""
    certificate, key = lab.certificate(server)
    # GStreamer's bindings belong to Debian's own Python.
    argv = ["/usr/bin/python3", lab.programs / "rtsp_server.py", "--address", server.address, "--port", server.port(0), "--tls-port", server.port(1),
            "--certificate", certificate, "--key", key, "--media", audiovisual.folder(lab)]
    server.spawn(argv, log="rtsp")
    for index in (0, 1):
        wait_until(lambda: listening(server, server.port(index)), timeout=30, what="the RTSP server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """One clip; over TCP alone where the way leads through a proxy."""
    transport = rng.choice(["tcp", "tls"] if client.proxy else ["udp", "udp", "tcp", "tls"])
    scheme, port = ("rtsps", server.port(1)) if transport == "tls" else ("rtsp", server.port(0))
    location = f"{scheme}://{server.address}:{port}/clip-{rng.randrange(audiovisual.CLIPS)}-{rng.randrange(len(audiovisual.RENDITIONS))}"
    seconds = round(rng.uniform(3, 8), 1)
    # ffmpeg's RTSP has no options of TLS and takes any certificate.
    argv = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-rtsp_transport", "udp" if transport == "udp" else "tcp"]
    argv += ["-i", location, "-t", seconds, "-map", "0", "-c", "copy", "-f", "null", "-"]
    client.run(through_proxy(client, argv), timeout=seconds + 60)
