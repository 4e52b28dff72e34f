"""Calls by baresip: SIP over TCP and SRTP with keys by DTLS."""

from __future__ import annotations

import random

from .. import audiovisual, baresip
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind(
    name="voip_sip_dtls",
    category="voip",
    application="sip_dtls",
    tunnels=("non_vpn", "vpn"),
    packages=baresip.PACKAGES,
    ports_per_server=baresip.ANSWERING,
)

TRANSPORT = "tcp"
MEDIA_ENCRYPTION = "dtls_srtp"


def prepare(lab: Lab) -> None:
    audiovisual.folder(lab)


def serve(server: Host, lab: Lab) -> None:
    baresip.serve(server, lab, TRANSPORT, MEDIA_ENCRYPTION)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    baresip.call(client, server, rng, lab, TRANSPORT, MEDIA_ENCRYPTION)
