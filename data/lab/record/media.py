"""Files that the servers offer: a site of many pages and files of many sizes, made from the seed."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

WORDS = "time year people way day thing world school state family student group country problem hand part place case week company system program question work number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city community name president team minute idea body information back parent face others level office door health person art war history party result change morning reason research girl guy moment air teacher force education".split()

PAGES = 60
# Each page goes on to another after a while, as a reader does.
SCRIPT = "const pause = 700 + Math.random() * 2500; setTimeout(() => { const links = document.querySelectorAll('a'); location = links[Math.floor(Math.random() * links.length)].href; }, pause);\n"


def _picture(rng: random.Random, width: int, height: int) -> bytes:
    """A PNG of noise and gradients; noise decides how large it is."""
    noise = rng.choice([1, 8, 64])
    rows = b"".join(b"\0" + bytes((x * 255 // width + rng.randrange(noise)) % 256 for x in range(width) for _ in range(3)) for _ in range(height))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def make(folder: Path, seed: int) -> Path:
    """Makes `site/` (pages, pictures, styles) and `files/` (file-NNN.bin, 2 kB to 500 kB) in `folder` once; gives the folder."""
    if (folder / "complete").exists():
        return folder
    rng = random.Random(f"{seed} media")
    site, files = folder / "site", folder / "files"
    site.mkdir(parents=True, exist_ok=True)
    files.mkdir(exist_ok=True)
    for number in range(40):
        (site / f"picture-{number:02d}.png").write_bytes(_picture(rng, rng.randrange(16, 160), rng.randrange(16, 120)))
    for number in range(4):
        (site / f"style-{number}.css").write_text("\n".join(f".{word} {{ margin: {rng.randrange(20)}px; color: #{rng.getrandbits(24):06x} }}" for word in WORDS[: rng.randrange(10, 90)]))
        (site / f"script-{number}.js").write_text(SCRIPT + "\n".join(f"const {word}{at} = {rng.random()};" for at, word in enumerate(WORDS[: rng.randrange(5, 90)])))
    for number in range(PAGES):
        parts = [f"<!doctype html><html><head><title>{_text(rng, 4)}</title><link rel=stylesheet href=style-{rng.randrange(4)}.css><link rel=icon href=picture-{rng.randrange(40):02d}.png></head><body>"]
        for _ in range(rng.randrange(2, 14)):
            parts.append(f"<h2>{_text(rng, 5)}</h2><p>{_text(rng, rng.randrange(20, 300))}</p>")
            if rng.random() < 0.6:
                parts.append(f"<img src=picture-{rng.randrange(40):02d}.png>")
            parts.append(f"<a href=page-{rng.randrange(PAGES):02d}.html>{_text(rng, 3)}</a>")
        parts.append(f"<script src=script-{rng.randrange(4)}.js></script></body></html>")
        (site / f"page-{number:02d}.html").write_text("\n".join(parts))
    (site / "index.html").write_text((site / "page-00.html").read_text())
    for number in range(48):
        size = int(2_000 * 250 ** rng.random())
        # Half of them like text, half like what is compressed already.
        data = _text(rng, size // 6 + 1).encode()[:size] if number % 2 else rng.randbytes(size)
        (files / f"file-{number:03d}.bin").write_bytes(data)
    (folder / "complete").write_text("")
    return folder
