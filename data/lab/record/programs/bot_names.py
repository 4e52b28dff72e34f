"""Looks generated names up, one after another, a socket each. Arguments: DNS server, seed, how many."""

import random
import sys
import time

from dnslib import DNSRecord

server, seed, count = sys.argv[1:]
rng = random.Random(int(seed))
for _ in range(int(count)):
    name = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(rng.randrange(8, 24))) + rng.choice([".info", ".biz", ".example", ".ru", ".top"])
    DNSRecord.question(name, rng.choice(["A", "A", "A", "MX"])).send(server, 53, timeout=5)
    time.sleep(rng.uniform(0.02, 0.4))
