"""Metrics with exact definitions, and the audit of printed tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy
from numpy.typing import ArrayLike

from . import _native
from .frame import Frame


@dataclass
class Metrics:
    """The metrics of one test set, defined in `results/FORMAT.md`.

    Attributes
    ----------
    values : dict of str to float or None
        Metrics of the whole test set by name; None if undefined.
    classes : Frame
        A row per class: `class`, then its metrics.
    confusion : numpy.ndarray of shape (classes, classes)
        Rows are true classes, columns predicted classes.
    class_names : list of str
    """

    values: dict[str, Optional[float]]
    classes: Frame
    confusion: numpy.ndarray = field(repr=False)
    class_names: list[str] = field(repr=False)

    def __getitem__(self, metric: str) -> Optional[float]:
        return self.values[metric]


def metrics(
    labels: ArrayLike,
    predictions: ArrayLike | None = None,
    *,
    probabilities: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
) -> Metrics:
    """Compute the metrics of predictions.

    Parameters
    ----------
    labels : array of shape (rows,)
        True classes: names, or indices if `class_names` is given.
    predictions : array of shape (rows,), optional
        Predicted classes, in the same form.
    probabilities : array of shape (rows, classes), optional
        Instead of predictions: rows that sum to 1. The class with the highest probability is predicted, the lowest class on
        ties. Converted to 32-bit floats.
    class_names : sequence of str, optional
        The classes, in order; by default all that occur, sorted.

    Returns
    -------
    Metrics

    Raises
    ------
    EtcbenchError
        If there are no rows, lengths differ, a class is not in `class_names`, or rows are not distributions.

    Examples
    --------
    >>> measured = metrics(["chat", "voip", "voip"], ["chat", "voip", "chat"])
    >>> round(measured["accuracy"], 3), measured.confusion.tolist()
    (0.667, [[1, 0], [1, 1]])
    """
    given = [numpy.asarray(values) for values in (labels, predictions) if values is not None]
    if class_names is None:
        class_names = [str(name) for name in numpy.unique(numpy.concatenate([values.astype(str) for values in given]))]
    names = [str(name) for name in class_names]
    places = {name: place for place, name in enumerate(names)}

    def indices(values: numpy.ndarray) -> numpy.ndarray:
        if values.dtype.kind in "iu" and not all(str(value) in places for value in numpy.unique(values)):
            if values.size and (values.min() < 0 or values.max() >= len(names)):
                raise _native.EtcbenchError(f"an index is negative or not below the number of classes, {len(names)}")
            return values.astype(numpy.uint32)
        try:
            return numpy.array([places[str(value)] for value in values], dtype=numpy.uint32)
        except KeyError as error:
            raise _native.EtcbenchError(f"{error.args[0]!r} is not one of the classes {', '.join(names)}") from None

    encoded = [numpy.ascontiguousarray(indices(values)) for values in given]
    matrix = None if probabilities is None else numpy.ascontiguousarray(probabilities, dtype=numpy.float32)
    predicted = encoded[1] if len(encoded) > 1 else None
    measured = _native.metrics(encoded[0], matrix, predicted, len(names))
    whole = {metric: value for metric, of, _, value in measured if of is None}
    keys = dict.fromkeys(metric for metric, of, other, _ in measured if of is not None and other is None)
    columns: dict[str, list[object]] = {"class": list(names)}
    for key in keys:
        by_class = {of: value for metric, of, other, value in measured if metric == key and other is None}
        columns[key] = [by_class.get(place) for place in range(len(names))]
    confusion = numpy.zeros((len(names), len(names)), dtype=numpy.int64)
    for _, of, other, value in measured:
        if of is not None and other is not None and value is not None:
            confusion[of, other] = int(value)
    return Metrics(whole, Frame(columns), confusion, names)


def audit(table: str | os.PathLike[str]) -> Frame:
    """Find the impossible numbers of a printed table.

    Parameters
    ----------
    table : path
        A CSV file with the columns `row`, `metric` and `value`, as ``etcbench audit`` reads it.

    Returns
    -------
    Frame
        Columns `row`, `metric`, `printed`, `possible` (``yes``, ``only_if``, ``no``) and `reason`.

    Raises
    ------
    EtcbenchError
        If the file cannot be read or is not such a table.
    """
    names = ["row", "metric", "printed", "possible", "reason"]
    found = _native.audit(os.fspath(table))
    return Frame({name: [finding[place] for finding in found] for place, name in enumerate(names)})
