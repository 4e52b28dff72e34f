"""Adaptive video, MPEG-DASH over HTTPS: nginx, and ffmpeg or VLC as players that keep the clock of the film."""

from __future__ import annotations

import random

from .. import audiovisual, player, web
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("video_dash", "video", "dash", ("non_vpn", "vpn", "tor"), packages=player.PACKAGES)

prepare = audiovisual.folder
serve = web.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    """One film; sound and picture are separate segments."""
    base = web.address(client, server, rng)
    # ffmpeg's DASH opens a connection per segment, a dozen in a session: often done, few sessions would make up the class.
    player.play(client, rng, lab, f"{base}/audiovisual/dash-{rng.randrange(audiovisual.CLIPS)}/manifest.mpd", by_ffmpeg=0.15)
