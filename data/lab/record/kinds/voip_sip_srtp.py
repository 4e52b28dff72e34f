"""Calls by baresip: SIP over TLS and SRTP with keys in SDP (SDES)."""

from __future__ import annotations

from functools import partial

from .. import audiovisual, baresip
from ..kind import Kind

KIND = Kind("voip_sip_srtp", "voip", "sip_srtp", ("non_vpn", "vpn"), packages=baresip.PACKAGES)
SIGNALLING = {"transport": "tls", "media_encryption": "srtp-mand"}

prepare = audiovisual.folder
serve = partial(baresip.serve, **SIGNALLING)
session = partial(baresip.call, **SIGNALLING)
