"""The tutorials work as written: writes their files and runs their commands and cells, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("polars")

#: The first line of a block with a file.
FILE = re.compile(r"# (\S+/\S+\.(?:toml|py))$")


def blocks(page: str) -> list[tuple[str, str, int]]:
    """Returns the fenced blocks of a page: the info string, the text, and the line where it begins."""
    found = re.finditer(r"^```([^\n]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [(match[1], match[2], page.count("\n", 0, match.start(2)) + 1) for match in found]


def test_the_tutorial_works_word_by_word(checkout, tmp_path, monkeypatch, capsys):
    page = checkout / "python/TUTORIAL.md"
    # As in a checkout, which is a project.
    for name in ["data/lab", "experiments"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(checkout / name)
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ETCBENCH_DATA", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = {"file": 0, "command": 0, "cell": 0}
    cells: dict[str, object] = {}
    for kind, text, line in blocks(page.read_text(encoding="utf-8")):
        file = FILE.match(text.splitlines()[0])
        if file:
            path = folder / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            done["file"] += 1
        elif kind == "sh":
            run = subprocess.run(["sh", "-e", "-c", text], capture_output=True, text=True, timeout=300)
            assert run.returncode == 0, f"{page}:{line}:\n{text}{run.stderr}"
            done["command"] += 1
        else:
            assert kind == "python", f"{page}:{line}: a block of {kind!r}, which nothing runs"
            # Blank lines so that a traceback has the line number of the page.
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), cells)  # noqa: S102
            done["cell"] += 1
    assert done["file"] == 3 and done["command"] >= 6 and done["cell"] >= 5, done
    told = capsys.readouterr().out
    assert "softmax" in told and "hls" in told
    flows = (folder / "hls.csv").read_text()
    assert flows.count("\n") > 5 and ",hls," in flows
