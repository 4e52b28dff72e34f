"""A chat server as web sites have them: login and history over HTTPS, messages over WebSockets, rooms by name."""

import argparse
import collections
import random
import ssl

from aiohttp import WSMsgType, web

import conversation


def application(seed: str) -> web.Application:
    """Routes of the server; every room opens with a history drawn by the seed."""
    rooms: dict[str, set] = collections.defaultdict(set)

    def history(room: str) -> list[dict]:
        rng = random.Random(f"{seed} {room}")
        people = conversation.names(rng, 4)
        return [{"from": rng.choice(people), "text": conversation.message(rng)} for _ in range(rng.randrange(5, 60))]

    async def login(request: web.Request) -> web.Response:
        form = await request.json()
        response = web.json_response({"name": form["name"], "rooms": sorted(rooms)[:20]})
        response.set_cookie("session", f"{random.SystemRandom().getrandbits(128):032x}", secure=True, httponly=True)
        return response

    async def page_of_history(request: web.Request) -> web.Response:
        return web.json_response(history(request.match_info["room"]))

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=5)
        await socket.prepare(request)
        members = rooms[request.match_info["room"]]
        members.add(socket)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    for member in list(members):
                        if not member.closed:
                            await member.send_str(message.data)
        finally:
            members.discard(socket)
        return socket

    routes = web.Application()
    routes.add_routes([web.post("/login", login), web.get("/rooms/{room}/history", page_of_history), web.get("/rooms/{room}/socket", talk)])
    return routes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--seed", required=True)
    options = parser.parse_args()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    web.run_app(application(options.seed), host=options.address, port=options.port, ssl_context=context, access_log=None)
