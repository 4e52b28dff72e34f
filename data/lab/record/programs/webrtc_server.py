"""The answering side of WebRTC calls: takes an offer over HTTPS, answers it, sends speech (and a picture where one is asked for)."""

import argparse
import itertools
import random
import ssl
from pathlib import Path

from aiohttp import web
from aiortc import RTCSessionDescription

import webrtc_peer


def application(options) -> web.Application:
    """Routes of the signalling server."""
    numbers = itertools.count()
    connections = set()

    async def answer(request: web.Request) -> web.Response:
        offer = await request.json()
        rng = random.Random(f"{options.seed} {next(numbers)}")
        connection = webrtc_peer.connection(request.remote)
        connections.add(connection)
        sink = webrtc_peer.MediaBlackhole()
        connection.on("track", sink.addTrack)

        @connection.on("connectionstatechange")
        async def changed():
            if connection.connectionState in ("failed", "closed"):
                connections.discard(connection)
                await sink.stop()
                await connection.close()

        await connection.setRemoteDescription(RTCSessionDescription(offer["sdp"], offer["type"]))
        video = offer.get("video")
        for player in webrtc_peer.players(Path(options.media), rng, offer["audio"], video):
            connection.addTrack(player.audio or player.video)
        for transceiver in connection.getTransceivers():
            webrtc_peer.prefer(transceiver, transceiver.kind, offer["audio"] if transceiver.kind == "audio" else video)
        await connection.setLocalDescription(await connection.createAnswer())
        await sink.start()
        return web.json_response({"sdp": connection.localDescription.sdp, "type": connection.localDescription.type})

    routes = web.Application()
    routes.add_routes([web.post("/call", answer)])
    return routes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("address", "certificate", "key", "media", "seed"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    web.run_app(application(options), host=options.address, port=options.port, ssl_context=context, access_log=None)
