"""Which captures make up the corpus: how many of each kind in each tunnel, and how many flows each is to have."""

from __future__ import annotations

import importlib
import math
import pkgutil
from dataclasses import dataclass

from . import kinds
from .kind import Kind
from .vpn import PROTOCOLS

# Every class of every table is to have at least 150 flows from at least 8 captures; a few more are recorded.
FLOWS_PER_CLASS = 160
CAPTURES_PER_CLASS = 8

# Categories whose applications are classes of their own outside tunnels (table 2).
APPLICATION_CLASSES = ("voip", "video")


@dataclass(frozen=True)
class Planned:
    """One capture to record."""

    stem: str
    kind: Kind
    tunnel: str
    protocol: str
    """Of the VPN; else the tunnel's name."""
    flows: int
    """Ends when it has so many."""


def all_kinds() -> dict[str, object]:
    """The modules of `kinds` by the name of their kind."""
    found = {}
    for module in pkgutil.iter_modules(kinds.__path__):
        loaded = importlib.import_module(f"{kinds.__name__}.{module.name}")
        if hasattr(loaded, "KIND"):
            found[loaded.KIND.name] = loaded
    return dict(sorted(found.items()))


def plan(modules: dict[str, object], only: list[str] | None = None, flows: int | None = None, captures: int | None = None) -> list[Planned]:
    """The captures of the corpus, or those of kinds, categories, applications or tunnels named in `only`."""
    all_of = [module.KIND for module in modules.values()]
    planned = []
    for kind in all_of:
        for tunnel in kind.tunnels:
            if only and not any(word in (kind.name, kind.category, kind.application, tunnel, f"{tunnel}-{kind.category}", f"{tunnel}-{kind.name}") for word in only):
                continue
            beside = [other for other in all_of if other.category == kind.category and tunnel in other.tunnels]
            alone = tunnel == "non_vpn" and kind.category in APPLICATION_CLASSES
            sharing = 1 if alone else len(beside)
            count = captures or kind.captures or max(math.ceil(CAPTURES_PER_CLASS / sharing), 3 if tunnel == "vpn" else 2)
            each = flows or kind.flows or max(math.ceil(FLOWS_PER_CLASS / (count * sharing)), 6)
            for number in range(count):
                protocol = PROTOCOLS[(number + all_of.index(kind)) % len(PROTOCOLS)] if tunnel == "vpn" else tunnel
                stem = f"bot-{kind.application}-{number + 1:02d}" if kind.category == "bot" else f"{tunnel}-{kind.category}-{kind.application}-{number + 1:02d}"
                planned.append(Planned(stem, kind, tunnel, protocol, each))
    return planned
