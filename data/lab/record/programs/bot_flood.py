"""Sends at most 160 datagrams to one port in about a second. Refuses addresses outside 10.0.0.0/8. Arguments: host, seed."""

import ipaddress
import random
import socket
import sys
import time

host, seed = sys.argv[1:]
if ipaddress.ip_address(host) not in ipaddress.ip_network("10.0.0.0/8"):
    sys.exit("only hosts of the lab")
rng = random.Random(int(seed))
size, port = rng.choice([8, 64, 512, 1400]), rng.choice([53, 80, 123, rng.randrange(1024, 65536)])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(rng.randrange(40, 161)):
        sender.sendto(rng.randbytes(size), (host, port))
        time.sleep(0.006)
