"""Weights in model files as numpy arrays; `python/README.md` lists names, shapes and layouts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy

from . import _native


@dataclass
class Weights:
    """The content of a model file.

    Attributes
    ----------
    arrays : dict of str to numpy.ndarray
        The tensors by name.
    metadata : dict of str to str
        The metadata of the file: `model`, `implementation`, `parameters` (TOML), and more depending on the model.
    """

    arrays: dict[str, numpy.ndarray]
    metadata: dict[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self.arrays[name]

    @property
    def description(self) -> dict[str, Any] | None:
        """How flows and features are computed, and the classes; None for a pre-trained ELMo."""
        text = self.metadata.get("description")
        return None if text is None else json.loads(text)


def weights(model: str | os.PathLike[str]) -> Weights:
    """Read the weights of a trained model, or of a pre-trained ELMo.

    Parameters
    ----------
    model : path
        A file written by ``etcbench run --save-models``, ``Experiment.run(save_models=True)`` or ``etcbench pretrain``.

    Returns
    -------
    Weights

    Raises
    ------
    EtcbenchError
        If the file cannot be read or is not a model file of etcbench.
    """
    arrays, metadata = _native.weights(os.fspath(model))
    return Weights(arrays, metadata)
