"""External models in Python: any scikit-learn estimator as a program that speaks etcbench-model-1.

`models/PROTOCOL.md` describes the messages of such a program. For an estimator, a folder with two files is enough, which
`write` creates::

    etcbench.model.write("models/extra-trees", "sklearn.ensemble.ExtraTreesClassifier", n_estimators=200)

This module does not import scikit-learn: an estimator is any object with `fit`, `predict` and, optionally, `predict_proba`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, Union

import numpy

PROTOCOL = "etcbench-model-1"

#: All inputs that a program may read; columns are concatenated in this order.
INPUTS = (
    "bytes",
    "statistics",
    "bytes_and_statistics",
    "sequences",
    "bytes_and_sequences",
    "sequences_and_statistics",
    "all",
)

Estimator = Union[str, Callable[..., Any]]


def columns(request: dict[str, Any]) -> numpy.ndarray:
    """Return the rows of a request as one matrix with a column per token (256 for padding), statistic and sequence value.

    Parameters
    ----------
    request : dict
        A request with array files, or its `training` or `validation`.

    Returns
    -------
    numpy.ndarray of shape (rows, columns)
        Memory-mapped if there is a single array.
    """
    named = [numpy.load(request[name], mmap_mode="r") for name in ("bytes", "statistics", "sequences") if name in request]
    shaped = [array.reshape(request["rows"], -1) for array in named]
    return shaped[0] if len(shaped) == 1 else numpy.hstack(shaped)


def _found(estimator: Estimator) -> Callable[..., Any]:
    if not isinstance(estimator, str):
        return estimator
    module, _, name = estimator.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _made(make: Callable[..., Any], keys: dict[str, Any], seed: int, threads: int) -> Any:
    """Create an estimator with these keys, setting the seed and number of threads if it supports them."""
    estimator = make(**keys)
    known = inspect.signature(type(estimator)).parameters
    asked = {"random_state": seed % 2**32, "n_jobs": threads}
    settings = {name: value for name, value in asked.items() if name in known and name not in keys}
    if settings:
        estimator.set_params(**settings)
    return estimator


def _probabilities(estimator: Any, rows: numpy.ndarray, classes: int) -> numpy.ndarray:
    answer = numpy.zeros((len(rows), classes))
    if hasattr(estimator, "predict_proba"):
        found = numpy.asarray(estimator.predict_proba(rows))
        # Single-precision rows may not sum to 1 as exactly as required.
        single = found.dtype != numpy.float64
        answer[:, estimator.classes_] = found / found.sum(axis=1, keepdims=True, dtype="f8") if single else found
    else:
        answer[numpy.arange(len(rows)), estimator.predict(rows)] = 1.0
    return answer


def serve(
    estimator: Estimator,
    *,
    inputs: Sequence[str] = INPUTS,
    deterministic: bool = True,
    requests: TextIO | None = None,
    answers: TextIO | None = None,
) -> None:
    """Run an external model: read requests from standard input and answer them until `quit`.

    Parameters
    ----------
    estimator : str or callable
        The name of a class (``"sklearn.ensemble.ExtraTreesClassifier"``), the class, or any function that creates an estimator
        from the model's keys as keyword arguments. `random_state` and `n_jobs` are set if the estimator has them and the
        keys do not.
    inputs : sequence of str
        The inputs that it can read, as in `model.toml`.
    deterministic : bool
        Whether the same fit produces the same model; etcbench verifies this.
    requests, answers : text streams, optional
        Streams to use instead of standard input and output. Without them, a program that is started with ``--versions`` prints
        the versions of its libraries, as `versions` in `model.toml` expects.

    Examples
    --------
    The whole program of a model:

    >>> from etcbench.model import serve
    >>> serve("sklearn.ensemble.ExtraTreesClassifier")  # doctest: +SKIP
    """
    if requests is None and sys.argv[1:] == ["--versions"]:
        print(_versions(estimator))
        return
    requests = requests or sys.stdin
    if answers is None:
        # Redirect the output of libraries to standard error.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
    fitted: Any = None
    classes = 0

    def say(message: str, **keys: Any) -> None:
        print(json.dumps({"message": message, **keys}), file=answers, flush=True)

    for line in requests:
        ask = json.loads(line)
        message = ask["message"]
        if message == "describe":
            say("description", protocol=PROTOCOL, inputs=list(inputs), deterministic=deterministic, software=_software(estimator))
        elif message == "fit":
            classes = len(ask["class_names"])
            fitted = _made(_found(estimator), ask["parameters"], ask["seed"], ask["threads"])
            fitted.fit(columns(ask["training"]), numpy.load(ask["training"]["labels"]))
            say("fitted")
        elif message == "predict":
            numpy.save(ask["answer"], _probabilities(fitted, columns(ask), classes))
            say("predicted")
        elif message == "save":
            (Path(ask["folder"]) / "estimator.pickle").write_bytes(pickle.dumps((fitted, classes)))
            say("saved")
        elif message == "load":
            fitted, classes = pickle.loads((Path(ask["folder"]) / "estimator.pickle").read_bytes())
            say("loaded")
        elif message == "quit":
            return


def _software(estimator: Estimator) -> str:
    """Return the name and version of the estimator's package."""
    made = _found(estimator)
    package = (getattr(made, "__module__", None) or "").partition(".")[0]
    module = sys.modules.get(package)
    return f"{package or 'python'} {getattr(module, '__version__', '')}".strip()


def _versions(estimator: Estimator) -> str:
    """Return the versions of Python and of the packages that a model uses, without importing them."""
    name = estimator if isinstance(estimator, str) else estimator.__module__
    package = name.partition(".")[0]
    distributions = {"numpy", "etcbench", *importlib.metadata.packages_distributions().get(package, [])}
    told = [f"{one} {importlib.metadata.version(one)}" for one in sorted(distributions)]
    return ", ".join([f"Python {sys.version}", *told])


def write(folder: str | os.PathLike[str], estimator: str, *, python: str = "python3", **parameters: Any) -> Path:
    """Write the folder of an external model for an estimator.

    Parameters
    ----------
    folder : path
        Such as ``models/extra-trees`` in a project; its name is the model's name. It must not exist yet.
    estimator : str
        The name of a class, such as ``"sklearn.ensemble.ExtraTreesClassifier"``, in the Python that runs the model.
    python : str
        That Python: a program on ``PATH``, or a path such as `sys.executable`, which is valid only on this machine.
    **parameters
        The keys that ``[model.NAME]`` may change, with their defaults: strings, numbers, booleans, lists.

    Returns
    -------
    pathlib.Path
        The folder, with `model.toml` and `model.py`.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(f'from etcbench.model import serve\n\nserve("{estimator}")\n', encoding="utf-8")
    keys = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in parameters.items())
    text = f"""protocol = "{PROTOCOL}"
title = "{estimator}."
version = "1"
licence = "say which"
pretraining = "none"
inputs = {json.dumps(list(INPUTS))}
run = [{json.dumps(python)}, "model.py"]
versions = [{json.dumps(python)}, "model.py", "--versions"]

[needs]
environment = ["PYTHONPATH"]
"""
    if keys:
        text += f"\n[parameters]\n{keys}"
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder
