"""Calls by baresip: SIP over TLS and SRTP with keys in SDP (SDES)."""

from __future__ import annotations

import random

from .. import audiovisual, baresip
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind(
    name="voip_sip_srtp",
    category="voip",
    application="sip_srtp",
    tunnels=("non_vpn", "vpn"),
    packages=baresip.PACKAGES,
    ports_per_server=baresip.ANSWERING,
)

TRANSPORT = "tls"
MEDIA_ENCRYPTION = "srtp-mand"


def prepare(lab: Lab) -> None:
    audiovisual.folder(lab)


def serve(server: Host, lab: Lab) -> None:
    baresip.serve(server, lab, TRANSPORT, MEDIA_ENCRYPTION)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    baresip.call(client, server, rng, lab, TRANSPORT, MEDIA_ENCRYPTION)
