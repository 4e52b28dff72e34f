"""Calls by baresip: SIP and RTP in the clear."""

from __future__ import annotations

from functools import partial

from .. import audiovisual, baresip
from ..kind import Kind

KIND = Kind("voip_sip_rtp", "voip", "sip_rtp", ("non_vpn", "vpn"), packages=baresip.PACKAGES)
SIGNALLING = {"transport": "udp", "media_encryption": None}

prepare = audiovisual.folder
serve = partial(baresip.serve, **SIGNALLING)
session = partial(baresip.call, **SIGNALLING)
