"""Tests of the scripts in this folder: `python3 -m unittest discover docs`."""

import posixpath
import re
import tempfile
import unittest
from pathlib import Path

import check_links
import pages


class Rewritten(unittest.TestCase):
    PAGES = {"README.md", "paper/METHOD.md", "models/README.md", "models/PROTOCOL.md", "docs/src/how-to.md"}
    FILES = ["data/lab.toml", "models/forest/forest.py", "paper/report.png"]

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for file in [*self.PAGES, *self.FILES]:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            (self.root / file).write_text("x")

    def check(self, page: str, text: str, expected: str) -> None:
        self.assertEqual(pages.rewritten(text, page, self.PAGES, self.root), expected)

    def test_links_between_pages(self) -> None:
        self.check("README.md", "[m](paper/METHOD.md#says)", "[m](paper/METHOD.md#says)")
        self.check("README.md", "[m](models/README.md)", "[m](models/index.md)")
        self.check("README.md", "[m](models/)", "[m](models/index.md)")
        self.check("paper/METHOD.md", "[r](../README.md#a)", "[r](../index.md#a)")
        self.check("paper/METHOD.md", "[p](../models/PROTOCOL.md)", "[p](../models/PROTOCOL.md)")
        self.check("models/README.md", "[p](PROTOCOL.md)", "[p](PROTOCOL.md)")
        self.check("models/PROTOCOL.md", "[r](README.md)", "[r](index.md)")

    def test_pages_that_only_the_site_has(self) -> None:
        self.assertEqual(pages.place("docs/src/how-to.md"), "how-to.md")
        self.check("docs/src/how-to.md", "[m](../../paper/METHOD.md#a)", "[m](paper/METHOD.md#a)")
        self.check("paper/METHOD.md", "[h](../docs/src/how-to.md)", "[h](../how-to.md)")

    def test_links_to_files_that_are_no_pages(self) -> None:
        self.check("README.md", "[the corpus](data/lab.toml) has", "the corpus (`data/lab.toml`) has")
        self.check("README.md", "[34 lines](models/forest/forest.py#L3)", "34 lines (`models/forest/forest.py`)")
        self.check("models/README.md", "| [forest](forest/) |", "| `models/forest/` |")
        self.check("models/README.md", "[`forest.py`](forest/forest.py)", "`models/forest/forest.py`")
        self.check("README.md", "[data/](data/)", "`data/`")
        self.check("models/README.md", "[../data/lab.toml](../data/lab.toml)", "`data/lab.toml`")

    def test_paths_of_pages_as_code_become_links(self) -> None:
        self.check("models/PROTOCOL.md", "see `paper/METHOD.md`.", "see [`paper/METHOD.md`](../paper/METHOD.md).")
        self.check("paper/METHOD.md", "`models/README.md`", "[`models/README.md`](../models/index.md)")
        for text in ["`paper/METHOD.md`", "`README.md`", "`cat models/README.md`", "`data/lab.toml`", "```\nmodels/README.md\n```\n"]:
            self.check("paper/METHOD.md", text, text)
        self.check("paper/METHOD.md", "[`models/README.md`](../README.md)", "[`models/README.md`](../index.md)")

    def test_text_over_two_lines(self) -> None:
        self.check("README.md", "[the\nlab](data/lab.toml)", "the\nlab (`data/lab.toml`)")

    def test_links_that_stay(self) -> None:
        for text in ["[a](#b)", "[a](https://example.org/x.md)", "[a](mailto:a@example.org)", "<https://example.org>"]:
            self.check("paper/METHOD.md", text, text)

    def test_code_stays(self) -> None:
        for text in [
            "```\n[a](none)\n```\n",
            "~~~text\n```\n[a](none)\n~~~\n",
            "````\n```\n[a](none)\n````\n",
            "1. item\n\n    ```toml\n    x = [a](none)\n    ```\n",
            "`[a](none)`",
            "``[a](none) ` b``",
            "```\n[a](none)",
        ]:
            self.check("README.md", text, text)

    def test_after_code_links_are_rewritten_again(self) -> None:
        self.check("README.md", "```\nx\n```\n[m](models/README.md)", "```\nx\n```\n[m](models/index.md)")
        self.check("README.md", "`a` [m](models/README.md) `b`", "`a` [m](models/index.md) `b`")
        # A backtick without its partner does not reach into the next paragraph.
        self.check("README.md", "a ` b\n\n[m](models/README.md) ` c", "a ` b\n\n[m](models/index.md) ` c")

    def test_images_are_embedded(self) -> None:
        self.check("README.md", "![a](paper/report.png)", "![a](data:image/png;base64,eA==)")

    def test_dead_links_are_refused(self) -> None:
        for target in ["none.md", "../README.md", "paper/none.png"]:
            with self.assertRaisesRegex(pages.PageError, f"README.md: {target}: no such file"):
                pages.rewritten(f"[a]({target})", "README.md", self.PAGES, self.root)

    def test_a_book_is_processed(self) -> None:
        def chapter(path: str, content: str, *below: dict) -> dict:
            return {"Chapter": {"path": path, "content": content, "sub_items": list(below)}}

        below = chapter("../../models/PROTOCOL.md", "[up](README.md)")
        book = {"items": [chapter("../../models/README.md", "[x](PROTOCOL.md)", below), "Separator", {"PartTitle": "x"}]}
        pages.process(book, self.root)
        found = [(chapter["path"], chapter["content"]) for chapter in pages.chapters(book["items"])]
        self.assertEqual(found, [("models/index.md", "[x](PROTOCOL.md)"), ("models/PROTOCOL.md", "[up](index.md)")])


class Repository(unittest.TestCase):
    def test_every_page_links_to_pages_alone(self) -> None:
        summary = (pages.DOCS / "src/SUMMARY.md").read_text("utf-8")
        listed = {
            posixpath.normpath(posixpath.join(pages.SOURCE, target)) for target in re.findall(r"\]\((.*?)\)", summary)
        }
        self.assertGreater(len(listed), 15)
        places = {pages.place(page) for page in listed}
        self.assertEqual(len(places), len(listed))
        count = 0
        for page in sorted(listed):
            text = pages.rewritten((pages.ROOT / page).read_text("utf-8"), page, listed)
            for match in pages.TOKEN.finditer(text):
                target = (match["target"] or "#").partition("#")[0]
                if target and not re.match("[a-z]+:", target):
                    count += 1
                    self.assertIn(posixpath.normpath(posixpath.join(posixpath.dirname(pages.place(page)), target)), places)
        self.assertGreater(count, 50)


class Subcommands(unittest.TestCase):
    def test_names_are_read_from_a_help(self) -> None:
        text = "Title\n\nCommands:\n  run       Run\n            more\n  data      List\n  help      Print\n\nOptions:\n  -h  x\n"
        self.assertEqual(pages.subcommands(text), ["run", "data"])
        self.assertEqual(pages.subcommands("Title\n\nOptions:\n  -h  x\n"), [])

    def test_every_subcommand_has_a_section(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            program = Path(name) / "program"
            program.write_text(
                "#!/bin/sh\ncase $* in\n--help) printf 'Top\\n\\nCommands:\\n  data  Data\\n  help  Print\\n' ;;\n"
                "'data --help') printf 'Data\\n\\nCommands:\\n  list  List\\n' ;;\n"
                "'data list --help') echo List ;;\n*) exit 2 ;;\nesac\n"
            )
            program.chmod(0o755)
            text = pages.commands(str(program))
            self.assertEqual(
                re.findall("^#.*", text, re.MULTILINE), ["## `etcbench`", "## `etcbench data`", "### `etcbench data list`"]
            )
            self.assertIn("```text\nList\n```\n", text)
            with self.assertRaisesRegex(pages.PageError, "none --help: exit code 2"):
                pages.commands(str(program), ("none",))


class DeadLinks(unittest.TestCase):
    def test_files_and_anchors(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "a").mkdir()
            (folder / "x.css").write_text("")
            (folder / "index.html").write_text(
                '<link href="x.css"><a href="a/">1</a><a href="a/index.html#here">2</a><a href="#top" id="top">3</a>'
                '<a href="https://example.org/none">4</a><img src="data:image/png;base64,eA==">'
            )
            (folder / "a/index.html").write_text('<p id="here"><a href="../index.html#top">1</a>')
            self.assertEqual(check_links.dead_links(folder), ([], 5))
            (folder / "a/b.html").write_text(
                '<a href="none.html">1</a><a href="../index.html#none">2</a><a href="../../x">3</a><img src="y.png">'
                '<a href="METHOD.md">4</a>'
            )
            dead, count = check_links.dead_links(folder)
            self.assertEqual(count, 10)
            self.assertEqual(
                dead,
                [
                    "a/b.html: none.html: no such file in the site",
                    "a/b.html: ../index.html#none: no such anchor in index.html",
                    "a/b.html: ../../x: no such file in the site",
                    "a/b.html: y.png: no such file in the site",
                    "a/b.html: METHOD.md: no such file in the site",
                ],
            )


if __name__ == "__main__":
    unittest.main()
