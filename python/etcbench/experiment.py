"""Experiments: features, splits, leak reports, and running."""

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
    """The features of a variant's flows, the input of models; row i is the same flow in every array.

    Attributes
    ----------
    variant : str
    bytes : numpy.ndarray of uint16, shape (rows, N, M)
        The first M bytes of the first N packets, padded with `etcbench.PAD` (256).
    statistics : numpy.ndarray of float32, shape (rows, columns)
        Flow statistics, in the order of `statistic_names`.
    sequences : numpy.ndarray of float32, shape (rows, 2 K)
        Signed lengths and times of the first K packets; no columns if no model reads them.
    flowpics : numpy.ndarray of uint8, shape (rows, R x R)
        Packets by length and time; no columns if no model reads them.
    labels : numpy.ndarray of uint32, shape (rows,)
        Indices into `class_names`, including those of test rows, which must only be used for scoring.
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
    """The split of a variant's rows for one seed and fold.

    Attributes
    ----------
    variant : str
    seed, fold : int
    training, validation, test : numpy.ndarray of int64
        Row indices. Training rows are as sampled, so a row may occur several times.
    """

    variant: str
    seed: int
    fold: int
    training: numpy.ndarray = field(repr=False)
    validation: numpy.ndarray = field(repr=False)
    test: numpy.ndarray = field(repr=False)


def _assignments(keys: dict[str, Any]) -> list[str]:
    """Convert keyword arguments to the form of ``--set``: ``feature__packets=8``, or ``feature={"packets": 8}``."""
    found = []
    for name, value in keys.items():
        key = name.replace("__", ".")
        if isinstance(value, dict):
            found += _assignments({f"{key}.{inner}": one for inner, one in value.items()})
        else:
            # JSON strings, numbers, booleans and lists are valid TOML.
            found.append(f"{key}={json.dumps(value, ensure_ascii=False)}")
    return found


class Experiment:
    """An experiment file with overrides.

    Parameters
    ----------
    experiment : str or path
        The name of a file in the project's `experiments`, such as ``"table2"``, or a file (``.toml``).
    data : str or sequence of str, optional
        Datasets to use instead of those in the file, such as ``"lab"`` or ``"synth"``.
    size : str, optional
        A size in `experiments/sizes`, such as ``"demo"``.
    seeds : int or sequence of int, optional
        The number of seeds (0, 1, ...), or a list of seeds.
    models, variants : sequence of str
        Restrict the experiment to these.
    project : path, optional
        The project's folder, with `experiments`, `data` and `results`; by default the nearest one from the current
        folder upwards, or the current folder if there is none.
    **keys
        Any key of the experiment: ``feature__packets=8``, ``feature={"packets": 8}`` or ``**{"feature.packets": 8}``.

    Raises
    ------
    EtcbenchError
        If the file is missing or invalid; the message names the key and the nearest known one.

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
        project: str | os.PathLike[str] | None = None,
        **keys: Any,
    ) -> None:
        if isinstance(seeds, int):
            seeds = range(seeds)
        self._native = _native.Experiment(
            os.fspath(experiment),
            project=None if project is None else os.fspath(project),
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
        """Name of the experiment."""
        return self._native.name

    @property
    def title(self) -> str:
        """A one-line title for captions."""
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
        """Return the model and input of every row of a variant, by default the first."""
        return self._native.models(self._variant(variant))

    @property
    def resolved(self) -> str:
        """The whole experiment, with everything it extends, as TOML."""
        return self._native.resolved

    @property
    def folder(self) -> Path:
        """Folder of its run, whether or not it exists."""
        return Path(self._native.folder)

    def _variant(self, variant: str | None) -> str:
        if variant is None:
            return self.variants[0]
        if variant not in self.variants:
            raise _native.EtcbenchError(f"{self.name}: no variant {variant!r}; known: {', '.join(self.variants)}")
        return variant

    def divide(self, progress: Progress = None) -> None:
        """Read the captures and split their flows, once; `features`, `splits` and `leaks` call this if needed."""
        if self._divided is None:
            variants, leaks = self._native.divide(teller(progress))
            self._divided = variants, json.loads(leaks)

    def features(self, variant: str | None = None) -> Features:
        """Return the features of a variant's flows, by default of the first variant.

        Raises
        ------
        EtcbenchError
            If captures are missing, or their flows do not meet the requirements of the experiment.
        """
        name = self._variant(variant)
        self.divide()
        assert self._divided is not None
        found = next(one for one in self._divided[0] if one["name"] == name)
        arrays = {key: found[key] for key in ("bytes", "statistics", "sequences", "flowpics", "labels")}
        names = {key: found[key] for key in ("class_names", "statistic_names", "flow_ids")}
        return Features(variant=name, **arrays, **names)

    def splits(self, variant: str | None = None) -> list[Split]:
        """Return the splits of a variant's rows, by seed and fold; by default of the first variant."""
        name = self._variant(variant)
        self.divide()
        assert self._divided is not None
        found = next(one for one in self._divided[0] if one["name"] == name)
        return [Split(variant=name, **split) for split in found["splits"]]

    def leaks(self) -> list[dict[str, Any]]:
        """Return the leak reports of splits and features: `leaks.json` of `results/FORMAT.md`."""
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

        Earlier results come from the cache. Ctrl-C stops the run; the same call resumes it.

        Parameters
        ----------
        progress : callable, bool or None
            A function called with every `Event`, or True to print the stages. If None, warnings go to the logger
            ``etcbench``.
        device : str
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache : bool
            Whether to read and write the cache in `results/cache`.
        save_models : bool
            Whether to write every trained model to the run's folder `models`; needs the cache.
        overwrite : bool
            Whether to replace an existing run with other results; otherwise it is kept as NAME.1, NAME.2, ...

        Returns
        -------
        Run
            Failed fits of external models are in ``run.information.get("failures")``.

        Raises
        ------
        EtcbenchError
            If data is missing, or a model rejects its keys or fails in training.
        """
        if save_models and not cache:
            raise _native.EtcbenchError("save_models needs the cache; use cache=True")
        folder, *_ = self._native.run(
            device=device, cache=cache, save_models=save_models, overwrite=overwrite, progress=teller(progress)
        )
        return Run(folder)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}: {' + '.join(self.datasets)}, {self.size}, variants {', '.join(self.variants)})"
