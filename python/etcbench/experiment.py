"""Experiments: what models get, how it is divided, what that gives away, and running it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from . import _native
from .progress import Progress, teller
from .run import Run


@dataclass
class Features:
    """What models get of a variant's flows; row i is the same flow in every array.

    Attributes
    ----------
    variant : str
    bytes : numpy.ndarray of uint16, shape (rows, N, M)
        The first M bytes of the first N packets; `etcbench.PAD` (256) where there is no byte.
    statistics : numpy.ndarray of float32, shape (rows, columns)
        Flow statistics, in the order of `statistic_names`.
    sequences : numpy.ndarray of float32, shape (rows, 2 K)
        Signed lengths and times of the first K packets; no columns where no model reads them.
    flowpics : numpy.ndarray of uint8, shape (rows, R x R)
        Packets by length and time; no columns where no model reads them.
    labels : numpy.ndarray of uint32, shape (rows,)
        Indices into `class_names`. Those of test rows too: only score with them.
    class_names, statistic_names, flow_ids : list of str
    """

    variant: str
    bytes: numpy.ndarray = field(repr=False)
    statistics: numpy.ndarray = field(repr=False)
    sequences: numpy.ndarray = field(repr=False)
    flowpics: numpy.ndarray = field(repr=False)
    labels: numpy.ndarray = field(repr=False)
    class_names: list[str]
    statistic_names: list[str] = field(repr=False)
    flow_ids: list[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Split:
    """How a variant's rows are divided for one seed and fold.

    Attributes
    ----------
    variant : str
    seed, fold : int
    training, validation, test : numpy.ndarray of int64
        Rows. Training rows are as sampled: one may be there several times.
    """

    variant: str
    seed: int
    fold: int
    training: numpy.ndarray = field(repr=False)
    validation: numpy.ndarray = field(repr=False)
    test: numpy.ndarray = field(repr=False)


def _assignments(keys: dict[str, Any]) -> list[str]:
    """Keyword arguments as ``--set`` has them: ``feature__packets=8``, or ``feature={"packets": 8}``."""
    found = []
    for name, value in keys.items():
        key = name.replace("__", ".")
        if isinstance(value, dict):
            found += _assignments({f"{key}.{inner}": one for inner, one in value.items()})
        else:
            # JSON's text, numbers, truth values and lists are TOML too.
            found.append(f"{key}={json.dumps(value, ensure_ascii=False)}")
    return found


class Experiment:
    """An experiment file with what is changed of it.

    Parameters
    ----------
    experiment : str or path
        The name of a file in the project's `experiments`, such as ``"table2"``, or a file (``.toml``).
    data : str or sequence of str, optional
        Datasets in place of the file's, such as ``"lab"`` or ``"synth"``.
    size : str, optional
        A size in `experiments/sizes`, such as ``"demo"``.
    seeds : int or sequence of int, optional
        How many seeds (0, 1, ...), or which.
    models, variants : sequence of str
        Only these.
    project : path, optional
        The project's folder, with `experiments`, `data` and `results`.
    **keys
        Any key of the experiment: ``feature__packets=8``, ``feature={"packets": 8}`` or ``**{"feature.packets": 8}``.

    Raises
    ------
    EtcbenchError
        A file that is missing or not understood; the message names the key and the nearest known one.

    Examples
    --------
    >>> experiment = Experiment("table2", data="lab", size="demo", models=["random_forest"])  # doctest: +SKIP
    >>> run = experiment.run(progress=True)  # doctest: +SKIP
    >>> run.tables["table2"]  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment: str | os.PathLike[str],
        data: str | Sequence[str] | None = None,
        size: str | None = None,
        *,
        seeds: int | Sequence[int] | None = None,
        models: Sequence[str] = (),
        variants: Sequence[str] = (),
        project: str | os.PathLike[str] = ".",
        **keys: Any,
    ) -> None:
        if isinstance(seeds, int):
            seeds = range(seeds)
        self._project = Path(project)
        self._native = _native.Experiment(
            os.fspath(experiment),
            project=os.fspath(project),
            data=[data] if isinstance(data, str) else list(data or []),
            size=size,
            assignments=_assignments(keys),
            seeds=None if seeds is None else list(seeds),
            models=list(models),
            variants=list(variants),
        )
        self._divided: tuple[list[dict[str, Any]], list[dict[str, Any]]] | None = None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._native.name

    @property
    def title(self) -> str:
        """One line for captions."""
        return self._native.title

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets."""
        return self._native.datasets

    @property
    def size(self) -> str:
        """``full``, or the name of the size."""
        return self._native.size

    @property
    def seeds(self) -> list[int]:
        """The seeds, one run each."""
        return self._native.seeds

    @property
    def variants(self) -> list[str]:
        """Names of the variants."""
        return self._native.variants

    def models(self, variant: str | None = None) -> list[tuple[str, str]]:
        """Model and input of every row of a variant; of the first where none is named."""
        return self._native.models(self._variant(variant))

    @property
    def resolved(self) -> str:
        """The whole experiment, with everything it extends, as TOML."""
        return self._native.resolved

    @property
    def folder(self) -> Path:
        """Where its run is, or will be."""
        return Path(self._native.folder)

    def _variant(self, variant: str | None) -> str:
        if variant is None:
            return self.variants[0]
        if variant not in self.variants:
            raise _native.EtcbenchError(f"{self.name}: there is no variant {variant!r}; there are {', '.join(self.variants)}")
        return variant

    def divide(self, progress: Progress = None) -> None:
        """Read the captures and divide their flows, once; `features`, `splits` and `leaks` do so where it was not done."""
        if self._divided is None:
            variants, leaks = self._native.divide(teller(progress))
            self._divided = variants, json.loads(leaks)

    def features(self, variant: str | None = None) -> Features:
        """What models get of a variant's flows; of the first variant where none is named.

        Raises
        ------
        EtcbenchError
            Captures that are not there, or flows that do not give what the experiment asks for.
        """
        name = self._variant(variant)
        self.divide()
        assert self._divided is not None
        found = next(one for one in self._divided[0] if one["name"] == name)
        arrays = {key: found[key] for key in ("bytes", "statistics", "sequences", "flowpics", "labels")}
        names = {key: found[key] for key in ("class_names", "statistic_names", "flow_ids")}
        return Features(variant=name, **arrays, **names)

    def splits(self, variant: str | None = None) -> list[Split]:
        """How a variant's rows are divided, by seed and fold; of the first variant where none is named."""
        name = self._variant(variant)
        self.divide()
        assert self._divided is not None
        found = next(one for one in self._divided[0] if one["name"] == name)
        return [Split(variant=name, **split) for split in found["splits"]]

    def leaks(self) -> list[dict[str, Any]]:
        """What the splits and features give away before any model is trained: `leaks.json` of `results/FORMAT.md`."""
        self.divide()
        assert self._divided is not None
        return self._divided[1]

    def run(
        self,
        *,
        progress: Progress = None,
        device: str = "auto",
        cache: bool = True,
        save_models: bool = False,
        overwrite: bool = False,
    ) -> Run:
        """Fit and score every row, and store the run as ``etcbench run`` does.

        What was computed before comes from the cache. Ctrl-C stops it; the same call goes on from there.

        Parameters
        ----------
        progress : callable, bool or None
            Told of every stage: a function of an `Event`, or True to print the stages. Without one, what a person should know
            goes to the logger ``etcbench``.
        device : str
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache : bool
            Whether to use and keep what `results/cache` has.
        save_models : bool
            Whether to write every trained model into the run's folder `models`; needs the cache.
        overwrite : bool
            Whether to replace a run that is there with other results; else it is kept as NAME.1, NAME.2, ...

        Returns
        -------
        Run
            Fits of external models that failed are in ``run.information.get("failures")``.

        Raises
        ------
        EtcbenchError
            Data that is missing, and whatever a model says of its keys or training.
        """
        if save_models and not cache:
            raise _native.EtcbenchError("save_models takes models from the cache; leave cache=True")
        folder, *_ = self._native.run(
            device=device, cache=cache, save_models=save_models, overwrite=overwrite, progress=teller(progress)
        )
        return Run(folder)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}: {' + '.join(self.datasets)}, {self.size}, variants {', '.join(self.variants)})"
