"""Stored runs: their records, predictions and tables, held beside one another and ranked."""

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
    """A cell of a CSV file: nothing, a number, or text."""
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


#: Columns of files that are text whatever they look like.
_TEXT = {"flow_id", "class", "predicted", "variant", "model", "input", "implementation"}


def _read(path: Path) -> Frame:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    header, rows = rows[0], rows[1:]
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(header):
        texts = [row[place] for row in rows]
        values = [text or None for text in texts] if name in _TEXT else [_cell(text) for text in texts]
        # A column is of text as soon as one of its cells is.
        if any(isinstance(value, str) for value in values):
            values = [text or None for text in texts]
        columns[name] = values
    return Frame(columns)


class _Files(Mapping[str, Frame]):
    """The CSV files of a folder by their names, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.csv"))}

    def __getitem__(self, name: str) -> Frame:
        try:
            return _read(self._paths[name])
        except KeyError:
            raise KeyError(f"no {name!r}; there are {', '.join(self._paths)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"<{', '.join(self._paths)}>"


class Run:
    """A run as it lies in its folder; `results/FORMAT.md` says what every file and column means.

    Parameters
    ----------
    run : path
        The run's folder, or the folder's name under the project's `results`.
    project : path, optional
        The project's folder.

    Attributes
    ----------
    folder : pathlib.Path
    records : Frame
        One measured value a row.
    information : dict
        `run.json`: versions, machine, captures, costs and failures of fits.
    leaks : list of dict
        The leak report of every variant, seed and fold.
    experiment : str
        The experiment with everything it extends, as TOML.
    changes : list of str
        What of the run is not as it was written; none where all of it is.

    Raises
    ------
    EtcbenchError
        No such run, or a file of it that is not what it should be.
    """

    def __init__(self, run: str | os.PathLike[str], *, project: str | os.PathLike[str] = ".") -> None:
        self.folder = Path(_native.find_run(os.fspath(Path(project) / "results"), os.fspath(run)))
        told = _native.read_run(os.fspath(self.folder))
        self.records = Frame(told["records"])
        self.information: dict[str, Any] = json.loads(told["information"])
        self.leaks: list[dict[str, Any]] = json.loads(told["leaks"])
        self.experiment: str = told["experiment"]
        self.changes: list[str] = told["changes"]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def predictions(self) -> Mapping[str, Frame]:
        """The predictions of every fit by name: `flow_id`, `class`, `predicted` and a probability per class."""
        return _Files(self.folder / "predictions")

    @property
    def tables(self) -> Mapping[str, Frame]:
        """The tables by name, in full precision."""
        return _Files(self.folder / "tables")

    @property
    def models(self) -> dict[str, Path]:
        """The files of trained models by name; none unless the run saved them."""
        return {path.stem: path for path in sorted((self.folder / "models").glob("*.safetensors"))}

    def _fit(self, metric: str | None, keys: dict[str, Any]) -> list[dict[str, Any]]:
        chosen = self.records.where(**({"metric": metric} if metric else {}), **keys).rows()
        of = ("variant", "model", "input", "implementation")
        rows = sorted({tuple(record[name] for name in of) for record in chosen})
        if len(rows) != 1:
            told = "; ".join(", ".join(row) for row in rows) or "none"
            raise _native.EtcbenchError(f"{self.name}: name one row by variant, model and input; these are {told}")
        return chosen

    def confusion(self, **keys: Any) -> tuple[numpy.ndarray, list[str]]:
        """The confusion matrix of a row of the table, all its seeds and folds together.

        Parameters
        ----------
        **keys
            Which row: `variant`, `model`, `input`, and `seed` or `fold` where only one is meant.

        Returns
        -------
        matrix : numpy.ndarray of int64, shape (classes, classes)
            Rows are true classes, columns predicted ones.
        class_names : list of str

        Raises
        ------
        EtcbenchError
            Keys that name no row or several.
        """
        records = self._fit("confusion", keys)
        names = list(dict.fromkeys(record["class"] for record in records))
        places = {name: place for place, name in enumerate(names)}
        matrix = numpy.zeros((len(names), len(names)), dtype=numpy.int64)
        for record in records:
            matrix[places[record["class"]], places[record["predicted"]]] += int(record["value"])
        return matrix, names

    def curves(self, **keys: Any) -> Frame:
        """The training curves: a row per fit, stage and epoch.

        Parameters
        ----------
        **keys
            Which fits, such as ``model="attention_lstm"``; all where none are named.

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
    """Two runs beside each other.

    Attributes
    ----------
    same_results : bool
        Whether every result, times and memory aside, is the same to the last bit.
    tables : dict of str to Frame
        What differs, by title: experiment, data, program and machine, results, times.
    """

    same_results: bool
    tables: dict[str, Frame]


def _found(run: str | os.PathLike[str] | Run, project: str | os.PathLike[str]) -> str:
    if isinstance(run, Run):
        return os.fspath(run.folder)
    return os.fspath(_native.find_run(os.fspath(Path(project) / "results"), os.fspath(run)))


def compare(
    first: str | os.PathLike[str] | Run, second: str | os.PathLike[str] | Run, *, project: str | os.PathLike[str] = "."
) -> Comparison:
    """What two runs have different.

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
    """The models of one variant, ranked over tables.

    Attributes
    ----------
    variant, metric : str
    tables : list of str
    models : Frame
        `model`, `input`, `implementation` and `mean_rank`, the best first.
    statistic, p_value : float or None, float
        Friedman's test.
    critical_difference : float
        Mean ranks that are further apart differ at a level of 5 % (Nemenyi, 1963).
    """

    variant: str
    metric: str
    tables: list[str]
    models: Frame
    statistic: float | None
    p_value: float
    critical_difference: float


def rank(
    runs: Sequence[str | os.PathLike[str] | Run], *, metric: str = "macro_f1", project: str | os.PathLike[str] = "."
) -> list[Ranking]:
    """Rank the models of several runs, each variant on its own.

    Parameters
    ----------
    runs : sequence of Run or path
        Runs of different experiments or datasets.
    metric : str
        A metric of the whole test set or of a fit. Of a loss, a time or a size smaller values are better.
    project : path, optional

    Returns
    -------
    list of Ranking
        None of a variant with fewer than two models that are in two of the runs.
    """
    found = _native.rank([_found(run, project) for run in runs], metric)
    names = ["model", "input", "implementation", "mean_rank"]
    for one in found:
        one["models"] = Frame({name: [row[place] for row in one["models"]] for place, name in enumerate(names)})
    return [Ranking(**one) for one in found]
