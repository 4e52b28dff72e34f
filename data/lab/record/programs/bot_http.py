"""Asks an HTTP server for orders some times, a connection each. Arguments: host, port, seed, times."""

import base64
import http.client
import random
import sys
import time

host, port, seed, times = sys.argv[1:]
rng = random.Random(int(seed))
path = rng.choice(["/gate.php", "/index.php", "/c/", "/b.php", "/images/"])
agent = rng.choice(["Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", "Mozilla/5.0 (Windows NT 6.1)", "Opera/9.80", "bot"])
name = f"{rng.getrandbits(64):016x}"
for _ in range(int(times)):
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    status = base64.urlsafe_b64encode(rng.randbytes(rng.randrange(6, 80))).decode()
    headers = {"User-Agent": agent, "Connection": rng.choice(["close", "Keep-Alive"])}
    if rng.random() < 0.5:
        connection.request("GET", f"{path}?id={name}&d={status}", headers=headers)
    else:
        connection.request("POST", path, body=f"id={name}&d={status}", headers={**headers, "Content-Type": "application/x-www-form-urlencoded"})
    connection.getresponse().read()
    connection.close()
    time.sleep(rng.uniform(0.2, 1.2))
