"""Asks for pages and pictures with made-up referrers, a connection or two per click. Arguments: host, port, seed, clicks."""

import http.client
import random
import sys
import time

host, port, seed, clicks = sys.argv[1:]
rng = random.Random(int(seed))
agents = ["Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 5.1)", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36", "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0"]
for _ in range(int(clicks)):
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    for _ in range(rng.randrange(1, 4)):
        path = rng.choice([f"/page-{rng.randrange(60):02d}.html?ad={rng.getrandbits(32)}", f"/picture-{rng.randrange(40):02d}.png?c={rng.getrandbits(40):x}"])
        connection.request("GET", path, headers={"User-Agent": rng.choice(agents), "Referer": f"http://{rng.choice(['search', 'news', 'shop', 'video'])}{rng.randrange(99)}.example/{rng.getrandbits(24):x}", "Accept": "*/*"})
        connection.getresponse().read()
    connection.close()
    time.sleep(rng.uniform(0.05, 0.6))
