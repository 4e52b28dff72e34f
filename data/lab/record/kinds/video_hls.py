"""Adaptive video, HLS over HTTPS: nginx, and ffmpeg or VLC as players that keep the clock of the film."""

from __future__ import annotations

import random

from .. import audiovisual, player, web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("video_hls", "video", "hls", ("non_vpn", "vpn", "tor"), packages=player.PACKAGES)

prepare = audiovisual.folder
serve = web.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """One film: master playlist or one rendition, segments of MPEG-TS or fragmented MP4."""
    base = web.address(client, server, rng)
    film = f"/audiovisual/hls-{rng.randrange(audiovisual.CLIPS)}-{rng.choice(['ts', 'fmp4'])}"
    playlist = rng.choice(["master", "r0", "r1", "r2"])
    player.play(client, rng, lab, f"{base}{film}/{playlist}.m3u8")
