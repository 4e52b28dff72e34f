"""People who chat on a web site: login, history, then a WebSocket each; now and then somebody scrolls back in the history."""

import asyncio
import json
import random
import sys

import aiohttp

import conversation
import transport_security

AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "ChatApp/3.14 (Linux; Android 14)",
]


class Person:
    """One user with a connection pool of their own."""

    def __init__(self, name: str, room: str, options, rng):
        self.name, self.received = name, 0
        self.base = f"https://{options.address}:{options.port}/rooms/{room}"
        self.login = f"https://{options.address}:{options.port}/login"
        context = transport_security.client_context(options.authority, options.tls, rng)
        self.tls = {"ssl": context, "server_hostname": options.hostname}
        self.http = aiohttp.ClientSession(headers={"User-Agent": rng.choice(AGENTS)}, cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def enter(self) -> None:
        async with self.http.post(self.login, json={"name": self.name}, **self.tls) as answer:
            answer.raise_for_status()
        await self.scroll()
        self.socket = await self.http.ws_connect(f"{self.base}/socket", **self.tls)
        self.reader = asyncio.create_task(self.read())

    async def scroll(self) -> None:
        async with self.http.get(f"{self.base}/history", **self.tls) as answer:
            answer.raise_for_status()
            await answer.json()

    async def read(self) -> None:
        async for message in self.socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                self.received += 1

    async def leave(self) -> None:
        await self.socket.close()
        await self.reader
        await self.http.close()


async def main(options) -> None:
    rng = random.Random(options.seed)
    room = f"{rng.choice(conversation.WORDS)}{rng.randrange(10_000)}"
    people = [Person(name, room, options, rng) for name in conversation.names(rng, options.people)]
    for person in people:
        await asyncio.wait_for(person.enter(), 20)
        await asyncio.sleep(rng.uniform(0, 0.4))
    end = asyncio.get_running_loop().time() + options.seconds
    sent = 0
    while sent == 0 or asyncio.get_running_loop().time() < end:
        person = rng.choice(people)
        if rng.random() < 0.1:
            await person.scroll()
        await person.socket.send_str(json.dumps({"from": person.name, "text": conversation.message(rng)}))
        sent += 1
        await asyncio.sleep(conversation.pause(rng))
    await asyncio.sleep(0.4)
    for person in people:
        await person.leave()
    received = sum(person.received for person in people)
    if received == 0:
        raise RuntimeError(f"{sent} messages sent, none received")
    print(f"{sent} sent, {received} received")


parser = transport_security.arguments(__doc__)
parser.add_argument("--people", type=int, default=2)
if __name__ == "__main__":
    sys.exit(asyncio.run(main(parser.parse_args())))
