"""Captures as tables: flows, packets, and what a trained model says of flows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Union

from . import _native

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    #: A capture's file (pcap or pcapng; plain, gzip, bzip2, xz or zstd), or ``archive.zip!member``.
    Capture = Union[str, os.PathLike[str]]


class Table:
    """A table that is made while it is read, once: captures may be larger than memory.

    `flows`, `packets` and `classify` give one. Whatever speaks the Arrow PyCapsule interface reads it, in batches and without
    copies: ``polars.DataFrame(table)``, ``pyarrow.table(table)``, ``pyarrow.RecordBatchReader.from_stream(table)``,
    ``duckdb.from_arrow(...)``. Reading a second time raises `EtcbenchError`.
    """

    def __init__(self, stream: _native.Stream) -> None:
        self._stream = stream

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in their order."""
        return self._stream.column_names

    @property
    def summaries(self) -> dict[str, str]:
        """Per capture that was read to its end what was found: flows, packets left out by reason, damage."""
        return self._stream.summaries

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._stream.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self._stream.__arrow_c_schema__()

    def to_arrow(self) -> pyarrow.Table:
        """All of it as a pyarrow table."""
        import pyarrow

        return pyarrow.table(self)

    def to_polars(self) -> polars.DataFrame:
        """All of it as a polars data frame."""
        import polars

        return polars.DataFrame(self)

    def to_pandas(self) -> pandas.DataFrame:
        """All of it as a pandas data frame; needs pyarrow too."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __repr__(self) -> str:
        return f"Table({len(self.columns)} columns, read once: {', '.join(self.columns[:5])}, ...)"


def _paths(captures: Capture | Iterable[Capture]) -> list[str]:
    named = [captures] if isinstance(captures, (str, os.PathLike)) else list(captures)
    if not named:
        raise _native.EtcbenchError("no capture is named; give a path or several")
    return [os.fspath(capture) for capture in named]


def flows(
    captures: Capture | Iterable[Capture],
    *,
    direction: Literal["bidirectional", "unidirectional"] = "bidirectional",
    idle_timeout: float | None = None,
    active_timeout: float | None = None,
    activity_timeout: float | None = None,
    tunnels: Literal["outer", "inner"] = "outer",
    packets: int | None = None,
    bytes: int | None = None,
    statistics: bool = True,
    masks: Sequence[str] = (),
    mask_method: Literal["zero", "randomise"] = "zero",
    seed: int = 0,
) -> Table:
    """The flows of captures, a row each: the columns of ``etcbench features`` but for `dataset`.

    Parameters
    ----------
    captures : path or iterable of paths
        pcap or pcapng, also compressed (gzip, bzip2, xz, zstd) or in a zip archive (``archive.zip!capture.pcap``).
    direction : {'bidirectional', 'unidirectional'}
        Whether the two directions of a five-tuple make one flow or two.
    idle_timeout, active_timeout : float, optional
        Seconds after a flow's last and first packet from which a packet begins a new flow; 120 and 3600.
    activity_timeout : float, optional
        Seconds of a gap that splits a flow's time into active and idle periods; 5.
    tunnels : {'outer', 'inner'}
        Which packet of a tunnel makes the flow: the one that carries, or the one that is carried.
    packets, bytes : int, optional
        How many first packets of a flow are kept, and how many first bytes of each, from the IP header on; 6 and 248.
    statistics : bool
        Whether the statistics are computed, which are most of the table.
    masks : sequence of str
        Fields to mask in the packets' bytes, such as ``"ip_addresses"`` and ``"ports"``.
    mask_method : {'zero', 'randomise'}
        What takes the place of masked fields.
    seed : int
        Of ``mask_method="randomise"``.

    Returns
    -------
    Table
        In the order of the captures and in that in which flows end; `results/FORMAT.md` says what the columns mean.

    Raises
    ------
    EtcbenchError
        A capture that cannot be read, or an option that makes no sense. Damage is none: the flows before it are there, and
        `Table.summaries` tells it.

    Examples
    --------
    >>> import etcbench, polars
    >>> polars.DataFrame(etcbench.flows("capture.pcap"))  # doctest: +SKIP
    """
    return Table(
        _native.flows(
            _paths(captures),
            direction=direction,
            idle_timeout=idle_timeout,
            active_timeout=active_timeout,
            activity_timeout=activity_timeout,
            tunnels=tunnels,
            packets=packets,
            bytes=bytes,
            statistics=statistics,
            masks=list(masks),
            mask_method=mask_method,
            seed=seed,
        )
    )


def packets(
    captures: Capture | Iterable[Capture], *, tunnels: Literal["outer", "inner"] = "outer", bytes: int = 128
) -> Table:
    """The TCP and UDP packets of captures, a row each.

    Parameters
    ----------
    captures : path or iterable of paths
        As for `flows`.
    tunnels : {'outer', 'inner'}
        Which packet of a tunnel is the row.
    bytes : int
        How many first bytes of a packet are kept, from the IP header on.

    Returns
    -------
    Table
        Columns `capture`, `number` (in the capture, from 1), `time_ns` (since the Unix epoch), `source_address`,
        `source_port`, `destination_address`, `destination_port`, `transport`, `wire_length` (of the frame), `network_length`
        (of the IP packet), `payload_length`, `transport_offset` and `payload_offset` (into the bytes), `tcp_flags`,
        `tcp_window` (null where there is no TCP header) and `bytes`.

    Raises
    ------
    EtcbenchError
        A capture that cannot be read.
    """
    return Table(_native.packets(_paths(captures), tunnels=tunnels, bytes=bytes))


def classify(
    model: str | os.PathLike[str], captures: Capture | Iterable[Capture], *, probabilities: bool = False
) -> Table:
    """What a trained model says of the flows of captures, a row each: the columns of ``etcbench classify``.

    Parameters
    ----------
    model : path
        A file that ``etcbench run --save-models`` or ``Experiment.run(save_models=True)`` wrote.
    captures : path or iterable of paths
        As for `flows`. Flows and features are made as in training.
    probabilities : bool
        Whether there is a column for the probability of every class.

    Returns
    -------
    Table
        `class` is null where the model has nothing to read, and `note` says why.

    Raises
    ------
    EtcbenchError
        A model or capture that cannot be read.
    """
    return Table(_native.classify(os.fspath(model), _paths(captures), probabilities=probabilities))
