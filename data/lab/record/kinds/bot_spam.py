"""Bot-like traffic: spam by SMTP without TLS, straight to the lab's own mail server, which keeps nothing."""

from __future__ import annotations

import random

from ..host import Host
from ..kind import Kind, Lab
from . import email_smtp

KIND = Kind("bot_spam", "bot", "spam", python=("aiosmtpd==1.4.6",), captures=4, flows=15)

serve = email_smtp.serve


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    client.run([lab.python, lab.programs / "bot_spam.py", server.address, 25, rng.getrandbits(32), rng.randrange(1, 4)], timeout=40)
