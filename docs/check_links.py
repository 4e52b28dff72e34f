"""Checks that every relative link of a built site leads somewhere: its file exists, and its anchor is in that page.

Prints a line per dead link; the exit code is then 1. Addresses of other sites are not visited.

    python3 docs/check_links.py FOLDER
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and what it links to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in ("href", "src"):
                self.links.append(value)


def dead_links(folder: Path) -> tuple[list[str], int]:
    """Returns a line per dead link of a site, and the number of relative links."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(folder.resolve().rglob("*.html"))}
    dead = []
    count = 0
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            count += 1
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if target.is_dir():
                target /= "index.html"
            at = path.relative_to(folder.resolve())
            if not target.is_relative_to(folder.resolve()) or not target.is_file():
                dead.append(f"{at}: {link}: no such file in the site")
            elif address.fragment and target in pages and unquote(address.fragment) not in pages[target].anchors:
                dead.append(f"{at}: {link}: no such anchor in {target.relative_to(folder.resolve())}")
    return dead, count


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("usage: check_links.py FOLDER, the folder of a built site", file=sys.stderr)
        return 2
    dead, count = dead_links(Path(sys.argv[1]))
    if count == 0:
        print(f"{sys.argv[1]}: no links found; is it a built site?", file=sys.stderr)
        return 2
    for line in dead:
        print(line, file=sys.stderr)
    print(f"{count} links checked, {len(dead)} dead")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
