"""Stored runs: their records, predictions and tables, and comparing and ranking runs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from . import _native
from .frame import Frame


def _cell(text: str) -> Any:
    """Parse a cell of a CSV file as None, a number, or text."""
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


#: Columns that are always text, even if they look like numbers.
_TEXT = {"flow_id", "class", "predicted", "variant", "model", "input", "implementation"}


def _read(path: Path) -> Frame:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    header, rows = rows[0], rows[1:]
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(header):
        texts = [row[place] for row in rows]
        values = [text or None for text in texts] if name in _TEXT else [_cell(text) for text in texts]
        # A column is text if any of its cells is.
        if any(isinstance(value, str) for value in values):
            values = [text or None for text in texts]
        columns[name] = values
    return Frame(columns)


class _Files(Mapping[str, Frame]):
    """The CSV files of a folder by name, read on access."""

    def __init__(self, folder: Path) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.csv"))}

    def __getitem__(self, name: str) -> Frame:
        try:
            return _read(self._paths[name])
        except KeyError:
            raise KeyError(f"no {name!r}; known: {', '.join(self._paths)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"<{', '.join(self._paths)}>"


class Run:
    """A stored run; `results/FORMAT.md` describes every file and column.

    Parameters
    ----------
    run : path
        The run's folder, or the folder's name under the project's `results`.
    project : path, optional
        The project's folder; by default the nearest one from the current folder upwards.

    Attributes
    ----------
    folder : pathlib.Path
    records : Frame
        One measured value per row.
    information : dict
        `run.json`: versions, machine, captures, costs and failures of fits.
    leaks : list of dict
        The leak report of every variant, seed and fold.
    experiment : str
        The experiment with everything it extends, as TOML.
    changes : list of str
        What was changed since the run was written; empty if nothing was.

    Raises
    ------
    EtcbenchError
        If there is no such run, or one of its files is invalid.
    """

    def __init__(self, run: str | os.PathLike[str], *, project: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(_found(run, project))
        told = _native.read_run(os.fspath(self.folder))
        self.records = Frame(told["records"])
        self.information: dict[str, Any] = json.loads(told["information"])
        self.leaks: list[dict[str, Any]] = json.loads(told["leaks"])
        self.experiment: str = told["experiment"]
        self.changes: list[str] = told["changes"]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def predictions(self) -> Mapping[str, Frame]:
        """Predictions of every fit by name: `flow_id`, `class`, `predicted` and a probability per class."""
        return _Files(self.folder / "predictions")

    @property
    def tables(self) -> Mapping[str, Frame]:
        """Tables by name, in full precision."""
        return _Files(self.folder / "tables")

    @property
    def models(self) -> dict[str, Path]:
        """Files of trained models by name; empty unless the run saved them."""
        return {path.stem: path for path in sorted((self.folder / "models").glob("*.safetensors"))}

    def _fit(self, metric: str | None, keys: dict[str, Any]) -> list[dict[str, Any]]:
        chosen = self.records.where(**({"metric": metric} if metric else {}), **keys).rows()
        of = ("variant", "model", "input", "implementation")
        rows = sorted({tuple(record[name] for name in of) for record in chosen})
        if len(rows) != 1:
            told = "; ".join(", ".join(row) for row in rows) or "none"
            raise _native.EtcbenchError(f"{self.name}: name one row by variant, model and input; matching rows: {told}")
        return chosen

    def confusion(self, **keys: Any) -> tuple[numpy.ndarray, list[str]]:
        """Return the confusion matrix of a row of the table, summed over its seeds and folds.

        Parameters
        ----------
        **keys
            The row: `variant`, `model`, `input`, and `seed` or `fold` to select one.

        Returns
        -------
        matrix : numpy.ndarray of int64, shape (classes, classes)
            Rows are true classes, columns predicted classes.
        class_names : list of str

        Raises
        ------
        EtcbenchError
            If the keys match no row or several.
        """
        records = self._fit("confusion", keys)
        names = list(dict.fromkeys(record["class"] for record in records))
        places = {name: place for place, name in enumerate(names)}
        matrix = numpy.zeros((len(names), len(names)), dtype=numpy.int64)
        for record in records:
            matrix[places[record["class"]], places[record["predicted"]]] += int(record["value"])
        return matrix, names

    def curves(self, **keys: Any) -> Frame:
        """Return the training curves: a row per fit, metric and epoch.

        Parameters
        ----------
        **keys
            The fits, such as ``model="attention_lstm"``; all by default.

        Returns
        -------
        Frame
            Columns `variant`, `model`, `input`, `seed`, `fold`, `epoch`, `metric` and `value`.
        """
        rows = [record for record in self.records.where(**keys).rows() if record["epoch"] is not None]
        columns = ["variant", "model", "input", "seed", "fold", "epoch", "metric", "value"]
        return Frame({name: [row[name] for row in rows] for name in columns})

    def __repr__(self) -> str:
        return f"Run({self.name!r}: {len(self.records)} records)"


@dataclass
class Comparison:
    """Comparison of two runs.

    Attributes
    ----------
    same_results : bool
        Whether every result, except times and memory, is the same to the last bit.
    tables : dict of str to Frame
        The differences, by title: experiment, data, program and machine, results, times.
    """

    same_results: bool
    tables: dict[str, Frame]


def _found(run: str | os.PathLike[str] | Run, project: str | os.PathLike[str] | None) -> str:
    if isinstance(run, Run):
        return os.fspath(run.folder)
    folder = _native.project(None if project is None else os.fspath(project))
    return os.fspath(_native.find_run(os.fspath(Path(folder) / "results"), os.fspath(run)))


def compare(
    first: str | os.PathLike[str] | Run, second: str | os.PathLike[str] | Run, *, project: str | os.PathLike[str] | None = None
) -> Comparison:
    """Compare two runs.

    Parameters
    ----------
    first, second : Run or path
        The runs, their folders, or the folders' names under the project's `results`.
    project : path, optional

    Returns
    -------
    Comparison
    """
    same, tables = _native.compare(_found(first, project), _found(second, project))
    return Comparison(same, {title: Frame(columns) for title, _, columns in tables})


@dataclass
class Ranking:
    """Ranking of the models of one variant over tables.

    Attributes
    ----------
    variant, metric : str
    tables : list of str
    models : Frame
        `model`, `input`, `implementation` and `mean_rank`, the best first.
    left_out : Frame
        `model`, `input` and `implementation` of the models that some table lacks; they are not ranked.
    failed : Frame
        `model`, `input`, `implementation` and `tables`: the models with failed fits, each with the number of tables in
        which it ranks last because of them.
    statistic, p_value : float or None, float
        Friedman's test.
    critical_difference : float
        Mean ranks that differ by more are significantly different at the 5 % level (Nemenyi, 1963).
    """

    variant: str
    metric: str
    tables: list[str]
    models: Frame
    left_out: Frame
    failed: Frame
    statistic: float | None
    p_value: float
    critical_difference: float


def rank(
    runs: Sequence[str | os.PathLike[str] | Run], *, metric: str = "macro_f1", project: str | os.PathLike[str] | None = None
) -> list[Ranking]:
    """Rank the models of several runs, separately for each variant.

    Parameters
    ----------
    runs : sequence of Run or path
        Runs of different experiments or datasets.
    metric : str
        A metric of the whole test set or of a fit. For losses, times and sizes, smaller values are better.
    project : path, optional

    Returns
    -------
    list of Ranking
        Variants with fewer than two models, or fewer than two runs, are left out.
    """
    found = _native.rank([_found(run, project) for run in runs], metric)
    row = ["model", "input", "implementation"]
    columns = {"models": [*row, "mean_rank"], "left_out": row, "failed": [*row, "tables"]}
    for one in found:
        for key, names in columns.items():
            one[key] = Frame({name: [found_row[place] for found_row in one[key]] for place, name in enumerate(names)})
    return [Ranking(**one) for one in found]
