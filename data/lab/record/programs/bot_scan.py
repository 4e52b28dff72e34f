"""Connects to some ports of one host, open and closed ones, and closes at once. Refuses addresses outside 10.0.0.0/8.
Arguments: host, seed, how many, ports known to be open."""

import ipaddress
import random
import socket
import sys
import time

host, seed, count, *known = sys.argv[1:]
if ipaddress.ip_address(host) not in ipaddress.ip_network("10.0.0.0/8"):
    sys.exit("only hosts of the lab")
rng = random.Random(int(seed))
usual = [21, 22, 23, 25, 53, 80, 110, 135, 139, 143, 443, 445, 1433, 3306, 3389, 5900, 8080]
for _ in range(int(count)):
    port = rng.choice([rng.choice(usual), rng.choice(usual), rng.randrange(1, 65536), int(rng.choice(known))])
    with socket.socket() as connection:
        connection.settimeout(1.0)
        if connection.connect_ex((host, port)) == 0 and rng.random() < 0.4:
            try:
                connection.sendall(rng.choice([b"\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"HELP\r\n"]))
                connection.recv(200)
            except OSError:
                pass
    time.sleep(rng.uniform(0.01, 0.2))
