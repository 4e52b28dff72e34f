"""Captures as tables: flows, packets, and flows classified by a trained model."""

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
Capture = Union[str, "os.PathLike[str]"]


class Table:
    """A table that is computed while it is read, so that captures may be larger than memory. It can be read once.

    `flows`, `packets` and `classify` return one. Libraries with the Arrow PyCapsule interface read it in batches and without
    copies: ``polars.DataFrame(table)``, ``pyarrow.table(table)``, ``pyarrow.RecordBatchReader.from_stream(table)``,
    ``duckdb.from_arrow(...)``. Reading it a second time raises `EtcbenchError`.
    """

    def __init__(self, stream: _native.Stream) -> None:
        self._stream = stream

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return self._stream.column_names

    @property
    def summaries(self) -> dict[str, str]:
        """Summary of each capture that was read to its end: flows, skipped packets by reason, damage."""
        return self._stream.summaries

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._stream.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self._stream.__arrow_c_schema__()

    def to_arrow(self) -> pyarrow.Table:
        """Read the whole table as a pyarrow table."""
        import pyarrow

        return pyarrow.table(self)

    def to_polars(self) -> polars.DataFrame:
        """Read the whole table as a polars data frame."""
        import polars

        return polars.DataFrame(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Read the whole table as a pandas data frame; also needs pyarrow."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __repr__(self) -> str:
        return f"Table({len(self.columns)} columns, read once: {', '.join(self.columns[:5])}, ...)"


def _paths(captures: Capture | Iterable[Capture]) -> list[str]:
    named = [captures] if isinstance(captures, (str, os.PathLike)) else list(captures)
    if not named:
        raise _native.EtcbenchError("no capture given; pass one or more paths")
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
    """Flows of captures, one per row: the columns of ``etcbench features`` except `dataset`.

    Parameters
    ----------
    captures : path or iterable of paths
        pcap or pcapng, also compressed (gzip, bzip2, xz, zstd) or in a zip archive (``archive.zip!capture.pcap``).
    direction : {'bidirectional', 'unidirectional'}
        Whether the two directions of a five-tuple form one flow or two.
    idle_timeout, active_timeout : float, optional
        Seconds after a flow's last and first packet after which a packet begins a new flow; default 120 and 3600.
    activity_timeout : float, optional
        Length in seconds of a gap that separates active and idle periods of a flow; default 5.
    tunnels : {'outer', 'inner'}
        Which packet of a tunnel defines the flow: the carrying or the carried one.
    packets, bytes : int, optional
        Number of first packets kept per flow, and of first bytes kept per packet, from the IP header on; default 6 and 248.
    statistics : bool
        Whether to compute the statistics, which are most of the table.
    masks : sequence of str
        Fields to mask in the packets' bytes, such as ``"ip_addresses"`` and ``"ports"``.
    mask_method : {'zero', 'randomise'}
        How masked fields are replaced.
    seed : int
        Seed of ``mask_method="randomise"``.

    Returns
    -------
    Table
        Flows in the order of the captures and, within a capture, in the order in which they end; `results/FORMAT.md` describes
        the columns.

    Raises
    ------
    EtcbenchError
        If a capture cannot be read or an option is invalid. A damaged capture is not an error: the flows before the damage
        are returned, and `Table.summaries` reports it.

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
    """TCP and UDP packets of captures, one per row.

    Parameters
    ----------
    captures : path or iterable of paths
        As for `flows`.
    tunnels : {'outer', 'inner'}
        Which packet of a tunnel the row describes.
    bytes : int
        Number of first bytes kept per packet, from the IP header on.

    Returns
    -------
    Table
        Columns `capture`, `number` (in the capture, from 1), `time_ns` (since the Unix epoch), `source_address`,
        `source_port`, `destination_address`, `destination_port`, `transport`, `wire_length` (of the frame), `network_length`
        (of the IP packet), `payload_length`, `transport_offset` and `payload_offset` (into the bytes), `tcp_flags`,
        `tcp_window` (null without a TCP header) and `bytes`.

    Raises
    ------
    EtcbenchError
        If a capture cannot be read.
    """
    return Table(_native.packets(_paths(captures), tunnels=tunnels, bytes=bytes))


def classify(
    model: str | os.PathLike[str], captures: Capture | Iterable[Capture], *, probabilities: bool = False
) -> Table:
    """Flows of captures classified by a trained model, one per row: the columns of ``etcbench classify``.

    Parameters
    ----------
    model : path
        A file written by ``etcbench run --save-models`` or ``Experiment.run(save_models=True)``.
    captures : path or iterable of paths
        As for `flows`. Flows and features are computed as in training.
    probabilities : bool
        Whether to add a column with the probability of every class.

    Returns
    -------
    Table
        `class` is null if the model has nothing to read, and `note` says why.

    Raises
    ------
    EtcbenchError
        If the model or a capture cannot be read.
    """
    return Table(_native.classify(os.fspath(model), _paths(captures), probabilities=probabilities))
