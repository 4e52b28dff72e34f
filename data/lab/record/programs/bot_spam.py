"""Sends some messages of random words, several to a connection. Refuses addresses outside 10.0.0.0/8. Arguments: host, port, seed,
connections."""

import ipaddress
import random
import smtplib
import sys
import time

host, port, seed, connections = sys.argv[1:]
if ipaddress.ip_address(host) not in ipaddress.ip_network("10.0.0.0/8"):
    sys.exit("only hosts of the lab")
rng = random.Random(int(seed))
words = "offer price buy now best pills watch loan free click win prize money fast secret deal limited order today cheap".split()
for _ in range(int(connections)):
    box = smtplib.SMTP(host, int(port), local_hostname=rng.choice(["localhost", "pc", "WORKGROUP"]) + str(rng.randrange(100)), timeout=15)
    for _ in range(rng.randrange(1, 5)):
        body = "\r\n".join(" ".join(rng.choice(words) for _ in range(8)) for _ in range(rng.randrange(2, 12)))
        sender, to = f"{rng.choice(words)}{rng.randrange(10000)}@lab.example", [f"user{rng.randrange(100000)}@lab.example" for _ in range(rng.randrange(1, 8))]
        box.sendmail(sender, to, f"From: <{sender}>\r\nSubject: {' '.join(rng.sample(words, 4))}\r\n\r\n{body}\r\n")
        time.sleep(rng.uniform(0.02, 0.3))
    box.quit()
