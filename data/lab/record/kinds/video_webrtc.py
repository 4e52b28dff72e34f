"""Browser-like calls with sound and picture: aiortc on both sides, signalled over HTTPS, DTLS-SRTP after ICE."""

from __future__ import annotations

import random

from .. import audiovisual, webrtc
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind(
    name="video_webrtc",
    category="video",
    application="webrtc_video",
    tunnels=("non_vpn", "vpn"),
    packages=webrtc.PACKAGES,
    python=webrtc.PYTHON,
    ports_per_server=1,
)


def prepare(lab: Lab) -> None:
    audiovisual.folder(lab)


def serve(server: Host, lab: Lab) -> None:
    webrtc.serve(server, lab)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    webrtc.calls(client, server, rng, lab, video=True)
