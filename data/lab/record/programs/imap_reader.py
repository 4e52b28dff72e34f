"""Reads a mailbox as a mail program does: lists, looks at headers, opens some messages, waits. Arguments: host, port, tls or
starttls, authority, user, password, seed."""

import imaplib
import random
import ssl
import sys
import time

host, port, how, authority, user, password, seed = sys.argv[1:]
rng = random.Random(int(seed))
context = ssl.create_default_context(cafile=authority)
if rng.random() < 0.4:
    context.maximum_version = ssl.TLSVersion.TLSv1_3
if how == "tls":
    box = imaplib.IMAP4_SSL(host, int(port), ssl_context=context)
else:
    box = imaplib.IMAP4(host, int(port))
    box.starttls(context)
box.login(user, password)
box.list()
count = int(box.select("INBOX")[1][0])
box.fetch(f"1:{count}", "(FLAGS BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)])")
for _ in range(rng.randrange(1, 6)):
    box.fetch(str(rng.randrange(1, count + 1)), "(BODY[])")
    time.sleep(rng.uniform(0.1, 1.0))
box.logout()
