"""A bot on an IRC channel, or its herder: it says words and answers words, and does nothing else. Arguments: bot or herder, host,
port, channel, seed, seconds."""

import random
import socket
import sys
import time

role, host, port, channel, seed, seconds = sys.argv[1:]
rng = random.Random(int(seed))
end = time.monotonic() + float(seconds)
connection = socket.create_connection((host, int(port)), timeout=10)
connection.settimeout(0.5)
nick = ("" if role == "bot" else "h") + rng.choice(["XP", "USA", "[0]", "w", "DEU"]).strip("[]") + "".join(rng.choice("0123456789abcdef") for _ in range(6))
nick = "n" + nick if nick[0].isdigit() else nick


def say(line):
    connection.sendall(line.encode() + b"\r\n")


say(f"NICK {nick}")
say(f"USER {nick[:4]} 0 * :{nick}")
joined, buffer, next_order = False, b"", time.monotonic() + 1
while time.monotonic() < end:
    try:
        data = connection.recv(4096)
        if not data:
            break
        buffer += data
    except TimeoutError:
        pass
    while b"\n" in buffer:
        line, buffer = buffer.split(b"\n", 1)
        words = line.decode(errors="replace").strip().split(" ", 3)
        if words[0] == "PING":
            say(f"PONG {words[1]}")
        elif len(words) > 1 and words[1] in ("376", "422") and not joined:
            say(f"JOIN {channel}")
            joined = True
        elif role == "bot" and len(words) == 4 and words[1] == "PRIVMSG" and words[3].startswith(":."):
            if rng.random() < 0.7:
                say(f"PRIVMSG {channel} :[{words[3][2:].split()[0].upper()}] {rng.choice(['done', 'started', 'running', 'failed', 'uptime'])} {rng.randrange(10000)}")
    if role == "herder" and joined and time.monotonic() > next_order:
        next_order = time.monotonic() + rng.uniform(0.4, 2.0)
        say(f"PRIVMSG {channel} :.{rng.choice(['info', 'version', 'status', 'uptime', 'list', 'wait'])} {rng.randrange(1000)}")
try:
    say("QUIT :bye")
except OSError:
    pass
if not joined:
    sys.exit("never joined the channel")
