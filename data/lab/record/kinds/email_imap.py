"""Reading mail by IMAP over TLS: curl, mbsync and Python's imaplib against Dovecot."""

from __future__ import annotations

import random

from .. import mail
from ..host import Host
from ..kind import Kind, Lab

KIND = Kind("email_imap", "email", "imap", ("non_vpn", "vpn"), packages=("dovecot-imapd", "dovecot-pop3d", "isync", "curl"))

serve = mail.serve_dovecot


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    program, implicit = rng.choice(["curl", "mbsync", "imaplib"]), rng.random() < 0.6
    port = server.port(0 if implicit else 1)
    if program == "curl":
        base = f"{'imaps' if implicit else 'imap'}://{server.hostname}:{port}/INBOX"
        urls = [f"{base};MAILINDEX={rng.randrange(1, 8)}" for _ in range(rng.randrange(1, 6))]
        client.run(["curl", "-sS", "--ssl-reqd", "--cacert", lab.authority, "-u", f"{mail.USER}:{mail.PASSWORD}", *(word for url in urls for word in ("-o", "/dev/null", url))], timeout=30)
    elif program == "mbsync":
        box = client.folder / f"maildir-{rng.getrandbits(32):08x}"
        box.mkdir()
        (client.folder / "mbsyncrc").write_text(
            f"IMAPStore far\nHost {server.hostname}\nPort {port}\nUser {mail.USER}\nPass {mail.PASSWORD}\nSSLType {'IMAPS' if implicit else 'STARTTLS'}\nCertificateFile {lab.authority}\nSystemCertificates no\n\n"
            f"MaildirStore near\nPath {box}/\nInbox {box}/INBOX\n\nChannel lab\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nMaxMessages {rng.randrange(2, 12)}\nExpireUnread yes\nSyncState {box}/state-\n")
        client.run(["mbsync", "-q", "-c", client.folder / "mbsyncrc", "lab"], env={"HOME": str(client.folder)}, timeout=30)
    else:
        client.run([lab.python, lab.programs / "imap_reader.py", server.hostname, port, "tls" if implicit else "starttls", lab.authority, mail.USER, mail.PASSWORD, rng.getrandbits(32)], timeout=30)
