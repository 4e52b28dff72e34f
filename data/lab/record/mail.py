"""The mail server of the kinds of mail: Dovecot for IMAP and POP3 over TLS with mailboxes made for each capture."""

from __future__ import annotations

import random

from .host import Host
from .kind import Lab, listening, wait_until
from .media import WORDS

USER, PASSWORD = "reader", "lab"


def message(rng: random.Random, lab: Lab) -> str:
    """A message of text, some with an attachment."""
    lines = [f"From: {rng.choice(WORDS)}@{rng.choice(WORDS)}.example", f"To: {USER}@lab.example", f"Subject: {' '.join(rng.sample(WORDS, 4))}", f"Message-ID: <{rng.getrandbits(64):x}@lab.example>", "Date: Wed, 25 Nov 2026 12:00:00 +0000", "MIME-Version: 1.0", ""]
    lines += [" ".join(rng.choice(WORDS) for _ in range(12)) for _ in range(rng.randrange(2, 80))]
    if rng.random() < 0.3:
        lines += [f"{rng.getrandbits(288):072x}" for _ in range(rng.randrange(20, 1500))]
    return "\r\n".join(lines) + "\r\n"


def serve_dovecot(server: Host, lab: Lab) -> None:
    """IMAP with TLS from the first byte at port 0, with STARTTLS at port 1; POP3 likewise at ports 2 and 3."""
    certificate, key = lab.certificate(server)
    folder = server.folder
    box = folder / "mail" / USER / "new"
    for name in ("cur", "new", "tmp"):
        (box.parent / name).mkdir(parents=True, exist_ok=True)
    for number in range(server.rng.randrange(8, 30)):
        (box / f"{number}.lab").write_text(message(server.rng, lab))
    for path in [folder / "mail", *(folder / "mail").rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    (folder / "run").mkdir(exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    minimum = server.rng.choice(["TLSv1.2", "TLSv1.2", "TLSv1.3"])
    (folder / "dovecot.conf").write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot-output.log
protocols = imap pop3
listen = {server.address}
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_min_protocol = {minimum}
disable_plaintext_auth = yes
mail_location = maildir:{folder}/mail/%u
mail_access_groups =
first_valid_uid = 1
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={folder}/mail/%u
}}
service imap-login {{
  inet_listener imaps {{
    port = {server.port(0)}
    ssl = yes
  }}
  inet_listener imap {{
    port = {server.port(1)}
  }}
}}
service pop3-login {{
  inet_listener pop3s {{
    port = {server.port(2)}
    ssl = yes
  }}
  inet_listener pop3 {{
    port = {server.port(3)}
  }}
}}
service stats {{
  client_limit = 100
}}
""")
    server.spawn(["dovecot", "-F", "-c", folder / "dovecot.conf"], log="dovecot")
    wait_until(lambda: listening(server, server.port(3)) and listening(server, server.port(0)), what="Dovecot")
