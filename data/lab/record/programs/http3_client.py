"""Asks for a page, then at once for what it shows, then for more pages after a reader's pauses. Arguments: host, port, authority,
seed, paths."""

import asyncio
import random
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated
from aioquic.tls import CipherSuite

host, port, authority, seed, *paths = sys.argv[1:]
rng = random.Random(int(seed))


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http, self.waiting, self.statuses = H3Connection(self._quic), {}, {}

    def ask(self, path):
        stream = self._quic.get_next_available_stream_id()
        self.http.send_headers(stream, [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", host.encode()), (b":path", path.encode()), (b"user-agent", b"aioquic")], end_stream=True)
        self.waiting[stream] = asyncio.get_running_loop().create_future()
        self.transmit()
        return self.waiting[stream]

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            return
        for one in self.http.handle_event(event):
            if isinstance(one, HeadersReceived):
                self.statuses[one.stream_id] = dict(one.headers).get(b":status")
            if isinstance(one, (HeadersReceived, DataReceived)) and one.stream_ended and not self.waiting[one.stream_id].done():
                self.waiting[one.stream_id].set_result(self.statuses[one.stream_id])


async def main():
    suites = rng.choice([None, [CipherSuite.AES_128_GCM_SHA256], [CipherSuite.CHACHA20_POLY1305_SHA256], [CipherSuite.AES_256_GCM_SHA384]])
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cipher_suites=suites)
    configuration.load_verify_locations(authority)
    pages = [path for path in paths if path.endswith(".html")]
    async with connect(host, int(port), configuration=configuration, create_protocol=Client) as client:
        answers = [await asyncio.wait_for(client.ask(pages[0]), 20)]
        answers += await asyncio.wait_for(asyncio.gather(*(client.ask(path) for path in paths if not path.endswith(".html"))), 30)
        for page in pages[1:]:
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            answers.append(await asyncio.wait_for(client.ask(page), 20))
    if set(answers) != {b"200"}:
        sys.exit(f"answered {answers}")


asyncio.run(main())
