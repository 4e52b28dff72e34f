"""What both ends of a WebRTC call share: which files are sent in which codec, and a peer connection that asks no STUN server."""

import random
import socket
from pathlib import Path

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from aiortc.contrib.media import MediaBlackhole, MediaPlayer


def connection(other: str) -> RTCPeerConnection:
    """A peer connection with one host candidate, the address by which `other` is reached, so that inside a VPN no call goes beside the
    tunnel; there is no STUN server here to wait for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))
        own = probe.getsockname()[0]
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [own]
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def prefer(transceiver, kind: str, name: str) -> None:
    """Offers or accepts this codec alone, with retransmission where there is any."""
    offered = RTCRtpSender.getCapabilities(kind).codecs
    transceiver.setCodecPreferences([codec for codec in offered if codec.mimeType.lower() in (f"{kind}/{name.lower()}", f"{kind}/rtx")])


def players(media: Path, rng: random.Random, audio: str, video: str | None) -> list[MediaPlayer]:
    """What one side sends. Opus and H.264 go out as they were encoded; other codecs are encoded from that."""
    chosen = [MediaPlayer(str(rng.choice(sorted(media.glob("speech-*.opus")))), decode=audio.lower() != "opus")]
    if video is not None:
        chosen.append(MediaPlayer(str(rng.choice(sorted(media.glob("call-*.ts")))), decode=video.upper() != "H264"))
    return chosen


def count_packets(reports) -> int:
    """Packets received in all streams of a connection, from its statistics."""
    return sum(report.packetsReceived for report in reports.values() if report.type == "inbound-rtp")


__all__ = ["MediaBlackhole", "connection", "count_packets", "players", "prefer"]
