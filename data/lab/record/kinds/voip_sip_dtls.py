"""Calls by baresip: SIP over TCP and SRTP with keys by DTLS."""

from __future__ import annotations

from functools import partial

from .. import audiovisual, baresip
from ..kind import Kind

KIND = Kind("voip_sip_dtls", "voip", "sip_dtls", ("non_vpn", "vpn"), packages=baresip.PACKAGES)
SIGNALLING = {"transport": "tcp", "media_encryption": "dtls_srtp"}

prepare = audiovisual.folder
serve = partial(baresip.serve, **SIGNALLING)
session = partial(baresip.call, **SIGNALLING)
