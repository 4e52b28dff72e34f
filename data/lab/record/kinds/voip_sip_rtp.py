"""Calls by baresip: SIP and RTP in the clear."""

from __future__ import annotations

import random

from .. import audiovisual, baresip
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind(
    name="voip_sip_rtp",
    category="voip",
    application="sip_rtp",
    tunnels=("non_vpn", "vpn"),
    packages=baresip.PACKAGES,
    ports_per_server=baresip.ANSWERING,
)

TRANSPORT = "udp"
MEDIA_ENCRYPTION = None


def prepare(lab: Lab) -> None:
    audiovisual.folder(lab)


def serve(server: Host, lab: Lab) -> None:
    baresip.serve(server, lab, TRANSPORT, MEDIA_ENCRYPTION)


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    baresip.call(client, server, rng, lab, TRANSPORT, MEDIA_ENCRYPTION)
