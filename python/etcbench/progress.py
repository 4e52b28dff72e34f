"""What long work tells while it goes on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import NamedTuple, Union


class Event(NamedTuple):
    """Something that long work tells.

    Attributes
    ----------
    kind : str
        ``begin`` of a stage (`text` its name, `number` its steps, 0 where unknown), ``advance`` (by `number` steps), ``note``
        on the stage (`text`), its ``end``, or ``warn``: something that a person should know (`text`).
    text : str
    number : int
    """

    kind: str
    text: str
    number: int


#: A function that is told, True for `print_progress`, or None for what a person should know alone, by the logger ``etcbench``.
Progress = Union[Callable[[Event], object], bool, None]


def print_progress(event: Event) -> None:
    """Print the name of every stage, and what a person should know, on standard error."""
    if event.kind in ("begin", "warn"):
        print(event.text, file=sys.stderr, flush=True)


def _log(event: Event) -> None:
    """What a person should know is told even where nobody listens."""
    if event.kind == "warn":
        logging.getLogger("etcbench").warning(event.text)


def teller(progress: Progress) -> Callable[[str, str, int], None]:
    """What the native half calls."""
    tell: Callable[[Event], object] = print_progress if progress is True else (progress or _log)

    def called(kind: str, text: str, number: int) -> None:
        tell(Event(kind, text, number))

    return called
