"""An SMTP server that takes every message and keeps none. Arguments: address, port with TLS from the first byte, port with
STARTTLS, port without TLS, certificate, key, user, password."""

import asyncio
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

address, tls_port, starttls_port, plain_port, certificate, key, user, password = sys.argv[1:]


class Sink:
    async def handle_DATA(self, server, session, envelope):
        return "250 Message accepted"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=good)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    common = dict(authenticator=authenticate, hostname="mail.lab.example", ident="ESMTP")
    await loop.create_server(lambda: SMTP(Sink(), auth_required=True, auth_require_tls=False, **common), address, int(tls_port), ssl=context)
    await loop.create_server(lambda: SMTP(Sink(), auth_required=True, require_starttls=True, tls_context=context, **common), address, int(starttls_port))
    await loop.create_server(lambda: SMTP(Sink(), **common), address, int(plain_port))
    await asyncio.Event().wait()


asyncio.run(main())
