"""An HTTP server that answers any request with random words or bytes. Arguments: address, two ports, seed."""

import base64
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

address, first, second, seed = sys.argv[1:]
rng = random.Random(int(seed))


class Handler(BaseHTTPRequestHandler):
    protocol_version = rng.choice(["HTTP/1.0", "HTTP/1.1"])
    server_version = rng.choice(["Apache/2.2.22", "nginx/1.2.1", "Microsoft-IIS/6.0"])
    sys_version = ""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = base64.b64encode(rng.randbytes(rng.choice([4, 12, 60, 400]))) if rng.random() < 0.7 else rng.randbytes(rng.randrange(10, 2000))
        time.sleep(rng.uniform(0, 0.05))
        self.send_response(200)
        self.send_header("Content-Type", rng.choice(["text/html", "application/octet-stream"]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass


for port in (first, second):
    threading.Thread(target=ThreadingHTTPServer((address, int(port)), Handler).serve_forever, daemon=True).start()
while True:
    time.sleep(60)
