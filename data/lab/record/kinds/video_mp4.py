"""Progressive video, one MP4 file over HTTPS: nginx, and Chromium or ffmpeg as the player."""

from __future__ import annotations

import random

from .. import audiovisual, web
from ..host import Host
from ..kind import Kind, Lab
from ..torsocks import through_proxy
from . import browsing_chromium

KIND = Kind(
    name="video_mp4",
    category="video",
    application="mp4",
    tunnels=("non_vpn", "vpn", "tor"),
    packages=("nginx-light", "ffmpeg", "chromium", "torsocks"),
)

prepare = audiovisual.folder
serve = web.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """One film from its beginning or, as a viewer does who skips, from somewhere in it."""
    location = f"{web.address(client, server, rng)}/audiovisual/clip-{rng.randrange(audiovisual.CLIPS)}-{rng.randrange(len(audiovisual.RENDITIONS))}.mp4"
    seconds = round(rng.uniform(3, 8), 1)
    # A browser costs a processor for a second or two, hence in a part of the sessions.
    if rng.random() < 0.3:
        browsing_chromium.run(client, server, location, seconds, ["--autoplay-policy=no-user-gesture-required"])
        return
    start = rng.choice([0, 0, round(rng.uniform(2, audiovisual.CLIP_SECONDS - 10), 1)])
    argv = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-tls_verify", 1, "-ca_file", lab.authority, "-multiple_requests", rng.choice([0, 1]),
            "-ss", start, "-readrate", 1, "-i", location, "-t", seconds, "-map", "0", "-c", "copy", "-f", "null", "-"]
    client.run(through_proxy(client, argv), timeout=seconds + 60)
