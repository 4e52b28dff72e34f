"""Sending mail by SMTP submission over TLS: swaks, msmtp and curl against aiosmtpd."""

from __future__ import annotations

import random

from .. import mail
from ..host import Host
from ..kind import Kind, Lab, listening, wait_until

KIND = Kind("email_smtp", "email", "smtp", ("non_vpn", "vpn"), packages=("swaks", "libnet-ssleay-perl", "msmtp", "curl"), python=("aiosmtpd==1.4.6",))


def serve(server: Host, lab: Lab) -> None:
    certificate, key = lab.certificate(server)
    server.spawn([lab.python, lab.programs / "smtp_server.py", server.address, server.port(0), server.port(1), 25, certificate, key, mail.USER, mail.PASSWORD], log="smtp")
    wait_until(lambda: listening(server, server.port(0)) and listening(server, server.port(1)), what="the SMTP server")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    program, implicit = rng.choice(["swaks", "msmtp", "curl"]), rng.random() < 0.5
    port = server.port(0 if implicit else 1)
    body = client.folder / "message.eml"
    body.write_text(mail.message(rng, lab))
    sender = f"{mail.USER}{rng.randrange(100)}@lab.example"
    to = [f"user{rng.randrange(1000)}@lab.example" for _ in range(rng.choice([1, 1, 2, 5]))]
    if program == "swaks":
        client.run(["swaks", "--silent", "2", "--server", server.hostname, "--port", port, "--tls-on-connect" if implicit else "--tls", "--auth", "PLAIN", "--auth-user", mail.USER, "--auth-password", mail.PASSWORD,
                    "--from", sender, "--to", ",".join(to), "--ehlo", f"host{rng.randrange(100)}.example", "--data", f"@{body}"], timeout=30)
    elif program == "msmtp":
        client.run(["msmtp", "--host", server.hostname, "--port", port, "--tls=on", f"--tls-starttls={'off' if implicit else 'on'}", f"--tls-trust-file={lab.authority}", "--auth=plain", f"--user={mail.USER}",
                    f"--passwordeval=echo {mail.PASSWORD}", f"--from={sender}", "--domain", f"host{rng.randrange(100)}.example", "--", *to], input=body.read_text(), env={"HOME": str(client.folder)}, timeout=30)
    else:
        client.run(["curl", "-sS", "--ssl-reqd", "--cacert", lab.authority, "-u", f"{mail.USER}:{mail.PASSWORD}", "--mail-from", sender, *(word for name in to for word in ("--mail-rcpt", name)),
                    "-T", body, f"{'smtps' if implicit else 'smtp'}://{server.hostname}:{port}"], timeout=30)
