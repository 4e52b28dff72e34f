"""Calls by baresip: one answers on the server host, another dials; SIP and media as the kind says."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from . import audiovisual
from .host import Host
from .kind import Lab, SessionError, listening, wait_until

PACKAGES = ("baresip-core", "ffmpeg")

# Name in baresip, module, sample rate of the WAV that it wants.
CODECS = [("pcmu/8000/1", "g711", 8000), ("pcma/8000/1", "g711", 8000), ("g722/16000/1", "g722", 16000), ("opus/48000/2", "opus", 48000)]
# One answering baresip per codec, since a WAV must have the codec's sample rate; two codecs per server.
ANSWERING = 2


def _configure(folder: Path, codec: tuple[str, str, int], wav: Path, media_encryption: str | None, account: str, listen: str, interface: str, rtp_ports: str, lab: Lab,
               certificate: Path | None = None) -> None:
    """Writes the configuration and the one account of a baresip."""
    folder.mkdir(parents=True, exist_ok=True)
    name, module, rate = codec
    modules = [module, "aufile", "aubridge", "srtp", "dtls_srtp"]
    (folder / "config").write_text(
        "\n".join([
            "poll_method epoll",
            f"sip_listen {listen}",
            f"net_interface {interface}",
            f"sip_cafile {lab.authority}",
            *([f"sip_certificate {certificate}"] if certificate else []),
            "call_local_timeout 20", "call_max_calls 64", "audio_buffer 20-160", f"audio_source aufile,{wav}", "audio_player aubridge,sink",
            "audio_alert aubridge,alert", f"ausrc_srate {rate}", f"auplay_srate {rate}", f"ausrc_channels {2 if rate == 48000 else 1}",
            f"auplay_channels {2 if rate == 48000 else 1}", f"rtp_ports {rtp_ports}", "rtp_tos 184", "module_path /usr/lib/baresip/modules",
            *(f"module {one}.so" for one in modules), "module_tmp account.so", "module_app menu.so", "opus_bitrate 28000", "",
        ])
    )
    encryption = f";mediaenc={media_encryption}" if media_encryption else ""
    (folder / "accounts").write_text(f"<{account}>;regint=0;audio_codecs={name};answermode=auto{encryption}\n")
    (folder / "contacts").write_text("")


def way(host: Host, address: str) -> tuple[str, str]:
    """Interface and own address by which a host reaches an address; inside a VPN those of the tunnel."""
    if address == host.address:
        listed = host.run(["ip", "-o", "-4", "address", "show", "to", address]).stdout.split()
        return listed[1], address
    words = host.run(["ip", "-o", "route", "get", address]).stdout.split()
    return words[words.index("dev") + 1], words[words.index("src") + 1]


def codec_of(server: Host, index: int) -> tuple[str, str, int]:
    """The codec of the index-th answering baresip; the same whenever asked of a host."""
    return random.Random(f"{server.hostname} {server.port(0)}").sample(CODECS, ANSWERING)[index]


def port(server: Host, index: int, transport: str) -> int:
    """SIP port. baresip has TLS one above the port that it is told, so it is told one less."""
    return server.port(index) - (1 if transport == "tls" else 0)


def serve(server: Host, lab: Lab, transport: str, media_encryption: str | None) -> None:
    """Starts the answering baresips; `transport` is udp, tcp or tls."""
    certificate, key = lab.certificate(server)
    both = server.folder / "baresip-certificate.pem"
    both.write_text(certificate.read_text() + key.read_text())
    for index in range(ANSWERING):
        folder = server.folder / f"baresip-{index}"
        codec = codec_of(server, index)
        first = 10_000 + 20_000 * index + 2 * server.rng.randrange(2_000)
        told = port(server, index, transport)
        _configure(folder, codec, audiovisual.speech(lab, server.rng, codec[2]), media_encryption, f"sip:service@{server.hostname};transport={transport}",
                   f"{server.address}:{told}", way(server, server.address)[0], f"{first}-{first + 9_000}", lab, both)
        # Without a terminal baresip ends at the end of its input, unless it is a daemon's.
        server.spawn(["baresip", "-4", "-f", folder], cwd=folder, log=f"baresip-{index}")
        kind = "udp" if transport == "udp" else "tcp"
        wait_until(lambda: listening(server, server.port(index), kind), timeout=30, what="baresip")


def call(client: Host, server: Host, rng: random.Random, lab: Lab, transport: str, media_encryption: str | None) -> None:
    """One call of 3 to 8 seconds; raises where it was not answered or no audio came."""
    index = rng.randrange(ANSWERING)
    codec = codec_of(server, index)
    folder = Path(tempfile.mkdtemp(prefix="call-", dir=client.folder))
    try:
        first = 2 * rng.randrange(6_000, 31_000)
        interface, own = way(client, server.address)
        _configure(folder, codec, audiovisual.speech(lab, rng, codec[2]), media_encryption, f"sip:caller{rng.randrange(1000)}@{own};transport={transport}",
                   f"{own}:{rng.randrange(20_000, 60_000)}", interface, f"{first}-{first + 200}", lab)
        seconds = rng.randint(3, 8)
        at = f"sip:service@{server.address}:{server.port(index)};transport={transport}"
        started = time.monotonic()
        done = client.run(["baresip", "-4", "-f", folder, "-t", seconds, "-e", f"/dial {at}"], timeout=seconds + 60, cwd=folder, check=False)
        text = done.stdout + done.stderr
        if "Call established" not in text or time.monotonic() - started < seconds - 1:
            raise SessionError(f"the call to {at} was not answered: {text[-600:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
