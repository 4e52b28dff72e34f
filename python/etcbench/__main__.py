"""The command line: ``etcbench``, or ``python -m etcbench``."""

from __future__ import annotations

import sys

from . import _native


def main() -> None:
    """Run the command line with the process's arguments and end with its exit code."""
    # Runs in several processes (`--jobs`, `--slurm`) start the program again with this command.
    sys.exit(_native.main(["etcbench", *sys.argv[1:]], [sys.executable, "-m", "etcbench"]))


if __name__ == "__main__":
    main()
