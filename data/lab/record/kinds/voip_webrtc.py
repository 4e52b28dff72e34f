"""Browser-like calls with sound alone: aiortc on both sides, signalled over HTTPS, DTLS-SRTP after ICE."""

from __future__ import annotations

from functools import partial

from .. import audiovisual, webrtc
from ..kind import Kind

KIND = Kind("voip_webrtc", "voip", "webrtc_audio", ("non_vpn", "vpn"), packages=webrtc.PACKAGES, python=webrtc.PYTHON)

prepare = audiovisual.folder
serve = webrtc.serve
session = partial(webrtc.calls, video=False)
