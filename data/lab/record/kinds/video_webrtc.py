"""Browser-like calls with sound and picture: aiortc on both sides, signalled over HTTPS, DTLS-SRTP after ICE."""

from __future__ import annotations

from functools import partial

from .. import audiovisual, webrtc
from ..kind import Kind

KIND = Kind("video_webrtc", "video", "webrtc_video", ("non_vpn", "vpn"), packages=webrtc.PACKAGES, python=webrtc.PYTHON)

prepare = audiovisual.folder
serve = webrtc.serve
session = partial(webrtc.calls, video=True)
