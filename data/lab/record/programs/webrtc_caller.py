"""People who call by WebRTC: an offer over HTTPS, then speech (and a picture) both ways; raises where nothing arrived."""

import asyncio
import random
import sys
from pathlib import Path

import aiohttp
from aiortc import RTCSessionDescription

import transport_security
import webrtc_peer


async def call(http, options, rng: random.Random, tls: dict) -> int:
    """One call; gives the number of packets received."""
    connection = webrtc_peer.connection(options.address)
    sink = webrtc_peer.MediaBlackhole()
    connection.on("track", sink.addTrack)
    try:
        for player in webrtc_peer.players(Path(options.media), rng, options.audio, options.video):
            connection.addTrack(player.audio or player.video)
        for transceiver in connection.getTransceivers():
            webrtc_peer.prefer(transceiver, transceiver.kind, options.audio if transceiver.kind == "audio" else options.video)
        await connection.setLocalDescription(await connection.createOffer())
        offer = {"sdp": connection.localDescription.sdp, "type": connection.localDescription.type, "audio": options.audio, "video": options.video}
        async with http.post(f"https://{options.address}:{options.port}/call", json=offer, **tls) as answer:
            answer.raise_for_status()
            text = await answer.json()
        await connection.setRemoteDescription(RTCSessionDescription(text["sdp"], text["type"]))
        await sink.start()
        await asyncio.sleep(options.seconds + rng.uniform(-0.5, 0.5))
        return webrtc_peer.count_packets(await connection.getStats())
    finally:
        await sink.stop()
        await connection.close()


async def main(options) -> None:
    rng = random.Random(options.seed)
    tls = {"ssl": transport_security.client_context(options.authority, options.tls, rng), "server_hostname": options.hostname}

    async def later(number: int, http) -> int:
        await asyncio.sleep(number * rng.uniform(0.2, 0.6))
        return await call(http, options, random.Random(f"{options.seed} {number}"), tls)

    async with aiohttp.ClientSession() as http:
        received = await asyncio.gather(*(later(number, http) for number in range(options.callers)))
    if min(received) == 0:
        raise RuntimeError(f"packets received per call: {received}")
    print(f"packets received per call: {received}")


parser = transport_security.arguments(__doc__)
parser.add_argument("--media", required=True, help="folder of speech-*.opus and call-*.ts")
parser.add_argument("--callers", type=int, default=1)
parser.add_argument("--audio", choices=["opus", "PCMU", "PCMA"], default="opus")
parser.add_argument("--video", choices=["H264", "VP8"])
if __name__ == "__main__":
    sys.exit(asyncio.run(main(parser.parse_args())))
