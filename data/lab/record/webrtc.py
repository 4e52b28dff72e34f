"""WebRTC calls between two aiortc: what the kinds with and without picture share."""

from __future__ import annotations

import random

from . import audiovisual
from .host import Host
from .kind import Lab, listening, wait_until

PACKAGES = ("ffmpeg",)
PYTHON = ("aiortc==1.16.0", "av==18.1.0", "aiohttp==3.14.5")


def serve(server: Host, lab: Lab) -> None:
    """The answering side, which is reached over HTTPS."""
    media = audiovisual.folder(lab)
    certificate, key = lab.certificate(server)
    server.spawn(
        [lab.python, lab.programs / "webrtc_server.py", "--address", server.address, "--port", server.port(0), "--certificate", certificate, "--key", key,
         "--media", media, "--seed", f"{lab.seed} {server.hostname}"],
        log="webrtc",
    )
    wait_until(lambda: listening(server, server.port(0)), timeout=30, what="the WebRTC server")


def calls(client: Host, server: Host, rng: random.Random, lab: Lab, video: bool) -> None:
    """One to three people call at about the same time, for 3 to 7 seconds."""
    media = audiovisual.folder(lab)
    argv = [
        lab.python, lab.programs / "webrtc_caller.py", "--address", server.address, "--hostname", server.hostname, "--port", server.port(0),
        "--authority", lab.authority, "--seconds", round(rng.uniform(3, 7), 2), "--seed", rng.getrandbits(32), "--tls", rng.choice(["1.2", "1.3", "1.3"]),
        "--media", media, "--callers", rng.choice([1, 2, 2, 3]),
    ]
    if video:
        argv += ["--video", rng.choice(["H264", "H264", "VP8"])]
    else:
        argv += ["--audio", rng.choice(["opus", "opus", "opus", "PCMU", "PCMA"])]
    client.run(argv, timeout=90)
