"""Players of adaptive video without a screen: ffmpeg, and VLC, which picks its rendition by the bandwidth that it measures."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from .host import Host
from .kind import Lab, SessionError
from .torsocks import through_proxy

PACKAGES = ("nginx-light", "ffmpeg", "vlc-bin", "vlc-plugin-base", "torsocks", "util-linux")
# VLC refuses to run as root.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def play(client: Host, rng: random.Random, lab: Lab, location: str, by_ffmpeg: float = 0.5) -> None:
    """Watches 3 to 8 seconds of a film; `by_ffmpeg` is how often that is done by ffmpeg."""
    seconds = round(rng.uniform(3, 8), 1)
    # VLC opens its connections with the first data in them (TCP Fast Open), which torsocks cannot divert.
    if client.proxy is not None or rng.random() < by_ffmpeg:
        _play_by_ffmpeg(client, lab, location, seconds)
    else:
        _play_by_vlc(client, rng, lab, location, seconds)


def _play_by_ffmpeg(client: Host, lab: Lab, location: str, seconds: float) -> None:
    """Nothing is decoded. -readrate keeps the clock of the film; the first seconds come at once, as players fill their buffer."""
    argv = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-tls_verify", 1, "-ca_file", lab.authority,
            "-readrate", 1, "-i", location, "-t", seconds, "-map", "0:v:0", "-map", "0:a:0?", "-c", "copy", "-f", "null", "-"]
    client.run(through_proxy(client, argv), timeout=seconds + 60)


def _play_by_vlc(client: Host, rng: random.Random, lab: Lab, location: str, seconds: float) -> None:
    home = Path(tempfile.mkdtemp(prefix="vlc-", dir=client.folder))
    try:
        trusted = home / "trusted"
        trusted.mkdir()
        shutil.copy(lab.authority, trusted)
        for path in (home, trusted):
            path.chmod(0o755)
        shutil.chown(home, 65534, 65534)
        argv = [*NOBODY, "env", f"HOME={home}", "vlc", "--intf", "dummy", "--vout", "vdummy", "--aout", "adummy", "--no-video-title-show",
                "--gnutls-dir-trust", trusted, "--adaptive-logic", rng.choice(["predictive", "nearoptimal", "rate", "lowest"]),
                "--run-time", seconds, "--play-and-exit", "--verbose", 1, location, "vlc://quit"]
        done = client.run(through_proxy(client, argv), timeout=seconds + 60, cwd=home, check=False)
        text = done.stdout + done.stderr
        # It exits with 0 whatever happens, but speaks of what is in a segment when one has come.
        if "unable to open" in text or not any(word in text for word in ("adaptive demux: Changing", "mp4 demux")):
            raise SessionError(f"VLC could not play {location}: {text[-600:]}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
