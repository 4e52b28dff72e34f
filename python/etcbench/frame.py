"""Small tables: named columns that need no data-frame library and convert to any."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from . import _native

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

#: Number of rows shown.
_SHOWN = 20


class Frame:
    """A table in memory.

    Libraries with the Arrow PyCapsule interface can read it: ``polars.DataFrame(frame)``, ``pyarrow.table(frame)``,
    ``duckdb.from_arrow(frame)``. `to_pandas` needs only pandas.

    Parameters
    ----------
    columns : mapping of str to sequence
        The columns, all of the same length: strings, integers, floats or booleans, and None for missing values.

    Examples
    --------
    >>> frame = Frame({"model": ["svm", "knn"], "macro_f1": [0.9, None]})
    >>> len(frame), frame.columns
    (2, ['model', 'macro_f1'])
    >>> frame["macro_f1"]
    array([0.9, nan])
    >>> frame.where(model="svm").rows()[0]
    {'model': 'svm', 'macro_f1': 0.9}
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self._columns: dict[str, list[Any]] = {name: list(values) for name, values in columns.items()}
        lengths = {len(values) for values in self._columns.values()}
        if len(lengths) > 1:
            raise _native.EtcbenchError(f"columns have {sorted(lengths)} rows; all must have the same number")
        self._rows = lengths.pop() if lengths else 0

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self._columns)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, name: str) -> numpy.ndarray:
        """Return a column as an array of 64-bit integers, of 64-bit floats with NaN for None, or of objects."""
        try:
            values = self._columns[name]
        except KeyError:
            raise KeyError(f"no column {name!r}; known: {', '.join(self._columns)}") from None
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int} and None not in values:
            return numpy.array(values, dtype=numpy.int64)
        if kinds and kinds <= {int, float}:
            return numpy.array([numpy.nan if value is None else value for value in values], dtype=numpy.float64)
        array = numpy.empty(len(values), dtype=object)
        array[:] = values
        return array

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows, each a dictionary."""
        return [dict(zip(self._columns, values)) for values in zip(*self._columns.values())]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())

    def where(self, **values: Any) -> Frame:
        """Return the rows that have these values, in order.

        Parameters
        ----------
        **values
            Column and value. Write ``class_`` for the column ``class``, which is a reserved word. None matches missing values.
        """
        wanted = {name.removesuffix("_"): value for name, value in values.items()}
        for name in wanted:
            if name not in self._columns:
                raise KeyError(f"no column {name!r}; known: {', '.join(self._columns)}")
        tests = [(self._columns[name], value) for name, value in wanted.items()]
        kept = [row for row in range(self._rows) if all(column[row] == value for column, value in tests)]
        return Frame({name: [column[row] for row in kept] for name, column in self._columns.items()})

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table as a new Arrow stream."""
        stream = _native.arrow_stream(list(self._columns), list(self._columns.values()))
        return stream.__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pandas.DataFrame:
        """Convert the table to a pandas data frame."""
        import pandas

        return pandas.DataFrame({name: self[name] for name in self._columns})

    def to_polars(self) -> polars.DataFrame:
        """Convert the table to a polars data frame."""
        import polars

        return polars.DataFrame(self)

    def to_arrow(self) -> pyarrow.Table:
        """Convert the table to a pyarrow table."""
        import pyarrow

        return pyarrow.table(self)

    def __repr__(self) -> str:
        return f"Frame({self._rows} rows: {', '.join(self._columns)})"

    def _repr_html_(self) -> str:
        def shown(value: Any) -> str:
            return "" if value is None else html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))

        head = "".join(f"<th>{html.escape(name)}</th>" for name in self._columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{shown(value)}</td>" for value in row.values()) + "</tr>" for row in self.rows()[:_SHOWN]
        )
        more = f"<p>{self._rows} rows</p>" if self._rows > _SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
