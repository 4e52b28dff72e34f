"""Fetching mail by POP3 over TLS: mpop and curl against Dovecot."""

from __future__ import annotations

import random

from .. import mail
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("email_pop3", "email", "pop3", ("non_vpn", "vpn"), packages=("dovecot-imapd", "dovecot-pop3d", "mpop", "curl"))

serve = mail.serve_dovecot


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    implicit = rng.random() < 0.6
    port = server.port(2 if implicit else 3)
    if rng.random() < 0.5:
        base = f"{'pop3s' if implicit else 'pop3'}://{server.hostname}:{port}/"
        urls = [base + str(rng.randrange(1, 8)) for _ in range(rng.randrange(1, 6))]
        client.run(["curl", "-sS", "--ssl-reqd", "--cacert", lab.authority, "-u", f"{mail.USER}:{mail.PASSWORD}", *(word for url in urls for word in ("-o", "/dev/null", url))], timeout=30)
    else:
        client.run(["mpop", "--host", server.hostname, "--port", port, "--tls=on", f"--tls-starttls={'off' if implicit else 'on'}", f"--tls-trust-file={lab.authority}", "--auth=user", f"--user={mail.USER}",
                    f"--passwordeval=echo {mail.PASSWORD}", "--keep=on", f"--uidls-file={client.folder}/uidls-{rng.getrandbits(32):08x}", "--delivery=mbox,/dev/null", "--half-quiet"], env={"HOME": str(client.folder)}, timeout=30)
