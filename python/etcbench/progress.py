"""Progress of long work."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import NamedTuple, Union


class Event(NamedTuple):
    """A progress event of long work.

    Attributes
    ----------
    kind : str
        ``begin`` of a stage (`text` is its name, `number` its steps, 0 if unknown), ``advance`` (by `number` steps), ``note``
        on the stage (`text`), its ``end``, or ``warn``, a warning for the user (`text`).
    text : str
    number : int
    """

    kind: str
    text: str
    number: int


#: A callback for events, True for `print_progress`, or None to only send warnings to the logger ``etcbench``.
Progress = Union[Callable[[Event], object], bool, None]


def print_progress(event: Event) -> None:
    """Print the name of every stage, and warnings, to standard error."""
    if event.kind in ("begin", "warn"):
        print(event.text, file=sys.stderr, flush=True)


def _log(event: Event) -> None:
    """Log warnings, even without a callback."""
    if event.kind == "warn":
        logging.getLogger("etcbench").warning(event.text)


def teller(progress: Progress) -> Callable[[str, str, int], None]:
    """Return the function that the native half calls."""
    tell: Callable[[Event], object] = print_progress if progress is True else (progress or _log)

    def called(kind: str, text: str, number: int) -> None:
        tell(Event(kind, text, number))

    return called
