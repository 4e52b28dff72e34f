"""An HTTP/3 server of the lab's pages. Arguments: address, certificate, key, media folder, ports."""

import asyncio
import sys
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated

address, certificate, key, media, *ports = sys.argv[1:]
KINDS = {".html": b"text/html", ".png": b"image/png", ".css": b"text/css", ".js": b"application/javascript"}


class Server(QuicConnectionProtocol):
    http = None

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if self.http is None:
            return
        for one in self.http.handle_event(event):
            if isinstance(one, HeadersReceived):
                path = dict(one.headers).get(b":path", b"/").decode()
                self.answer(one.stream_id, Path(media) / "site" / Path(path).name)
        self.transmit()

    def answer(self, stream, file):
        body = file.read_bytes() if file.is_file() else b"not found"
        status = b"200" if file.is_file() else b"404"
        self.http.send_headers(stream, [(b":status", status), (b"server", b"aioquic"), (b"content-type", KINDS.get(file.suffix, b"text/plain")), (b"content-length", str(len(body)).encode())])
        self.http.send_data(stream, body, end_stream=True)


async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, key)
    for port in ports:
        await serve(address, int(port), configuration=configuration, create_protocol=Server)
    await asyncio.Event().wait()


asyncio.run(main())
