"""A preprocessor of mdBook that makes a site of Markdown files where they are in the repository.

`src/SUMMARY.md` names files such as `../../paper/METHOD.md`. A page's place in the site is its path in the repository
(a README is its folder's index), so most links work unchanged. The rest is done here: a link to a file that is no page
becomes its text and the file's path, since the site has no such file; a page's path as code becomes a link to it; images
become part of their page; and `{{commands}}` becomes the help of every subcommand of the program that `$ETCBENCH` names.
"""

import base64
import json
import mimetypes
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# The folder of SUMMARY.md, relative to the repository.
SOURCE = "docs/src"

TOKEN = re.compile(
    r"""
    # A fenced code block, up to its closing fence or the end of the file.
    ^[ ]*(?P<fence>`{3,}|~{3,})[^\n]*\n (?:.*?^[ ]*(?P=fence)[`~]*[ ]*$ | .*)
    # A link or an image; code spans in its text may contain brackets.
    | (?P<image>!?) \[ (?P<text>(?:[^\[\]`]|`[^`]*`)*) \] \( (?P<target>[^()\s]+) \)
    # A code span, within one paragraph.
    | (?P<ticks>`+) (?:(?!\n\n)[^`]|(?!(?P=ticks)(?!`))`+)+ (?P=ticks)
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


class PageError(Exception):
    """What is wrong with a page."""


def place(page: str) -> str:
    """Returns where in the site a page of the repository is."""
    page = page.removeprefix(f"{SOURCE}/")
    return re.sub(r"(^|/)README\.md$", r"\1index.md", page)


def rewritten(text: str, page: str, pages: set[str], root: Path = ROOT) -> str:
    """Returns the text of a page with links that work in the site."""

    def link(file: str) -> str:
        return posixpath.relpath(place(file), posixpath.dirname(place(page)) or ".")

    def replacement(match: re.Match[str]) -> str:
        target = match["target"]
        code = match[0].strip("`")
        # A name alone, such as `README.md`, may be that of another folder.
        if match["ticks"] and "/" in code and code in pages and code != page:
            return f"[{match[0]}]({link(code)})"
        if target is None or target.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = unquote(path)
        file = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if file.startswith("../") or not (root / file).exists():
            raise PageError(f"{page}: {target}: no such file in the repository")
        if match["image"]:
            kind = mimetypes.guess_type(file)[0]
            content = base64.b64encode((root / file).read_bytes()).decode()
            return f"![{match['text']}](data:{kind};base64,{content})"
        if (root / file).is_dir() and f"{file}/README.md" in pages:
            file = f"{file}/README.md"
        if file in pages:
            return f"[{match['text']}]({link(file)}{'#' if anchor else ''}{anchor})"
        shown = f"{file}/" if (root / file).is_dir() else file
        # A text that is the link's path, or the end of the file's, is not repeated.
        named = posixpath.normpath(match["text"].strip("`"))
        if named == posixpath.normpath(path) or f"/{file}".endswith(f"/{named}"):
            return f"`{shown}`"
        return f"{match['text']} (`{shown}`)"

    return TOKEN.sub(replacement, text)


def subcommands(text: str) -> list[str]:
    """Returns the subcommands that a help lists, without `help` itself."""
    listed = re.search(r"^Commands:\n((?:[ ].*\n)+)", text, re.MULTILINE)
    names = re.findall(r"^ {2}(\S+)", listed[1], re.MULTILINE) if listed else []
    return [name for name in names if name != "help"]


def commands(program: str, words: tuple[str, ...] = ()) -> str:
    """Returns a section for a command and for each of its subcommands: its help."""
    run = subprocess.run([program, *words, "--help"], capture_output=True, text=True)
    if run.returncode != 0:
        raise PageError(f"{' '.join([program, *words, '--help'])}: exit code {run.returncode}\n{run.stderr}")
    heading = " ".join(("etcbench", *words))
    section = f"{'###' if len(words) > 1 else '##'} `{heading}`\n\n```text\n{run.stdout.rstrip()}\n```\n"
    return "\n".join([section, *(commands(program, (*words, name)) for name in subcommands(run.stdout))])


def chapters(items: list) -> list[dict]:
    """Returns the chapters of a book, with those below them."""
    found = []
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            found += [item["Chapter"], *chapters(item["Chapter"]["sub_items"])]
    return found


def process(book: dict, root: Path = ROOT) -> None:
    """Moves every page of a book to its place, and makes its links work there."""
    pages = {posixpath.normpath(posixpath.join(SOURCE, chapter["path"])): chapter for chapter in chapters(book["items"])}
    for page, chapter in pages.items():
        chapter["content"] = rewritten(chapter["content"], page, set(pages), root)
        if "{{commands}}" in chapter["content"] and page.startswith(SOURCE):
            if "ETCBENCH" not in os.environ:
                raise PageError(f"{page}: $ETCBENCH does not name the program; scripts/docs sets it")
            chapter["content"] = chapter["content"].replace("{{commands}}", commands(os.environ["ETCBENCH"]))
        chapter["path"] = place(page)


def main() -> int:
    if sys.argv[1:2] == ["supports"]:
        return 0 if sys.argv[2:] == ["html"] else 1
    _, book = json.load(sys.stdin)
    try:
        process(book)
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(book, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
