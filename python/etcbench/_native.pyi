"""Stubs of the native half; not a public API."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy
from numpy.typing import NDArray

__all__ = [
    "EtcbenchError",
    "PAD",
    "Classical",
    "Experiment",
    "Stream",
    "__version__",
    "arrow_stream",
    "audit",
    "classify",
    "compare",
    "find_run",
    "flows",
    "main",
    "metrics",
    "packets",
    "project",
    "rank",
    "read_run",
    "weights",
]

__version__: str
PAD: int

class EtcbenchError(ValueError):
    """An argument or file cannot be used; the message says what, where, and what to do, in one line."""

@final
class Stream:
    @property
    def column_names(self) -> list[str]: ...
    @property
    def summaries(self) -> dict[str, str]: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...

@final
class Experiment:
    def __new__(
        cls,
        experiment: str,
        *,
        project: str | None,
        data: list[str],
        size: str | None,
        assignments: list[str],
        seeds: list[int] | None,
        models: list[str],
        variants: list[str],
    ) -> Experiment: ...
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def datasets(self) -> list[str]: ...
    @property
    def size(self) -> str: ...
    @property
    def seeds(self) -> list[int]: ...
    @property
    def variants(self) -> list[str]: ...
    def models(self, variant: str) -> list[tuple[str, str]]: ...
    @property
    def resolved(self) -> str: ...
    @property
    def folder(self) -> str: ...
    def divide(self, progress: Callable[[str, str, int], object] | None) -> tuple[list[dict[str, Any]], str]: ...
    def run(
        self,
        *,
        device: str,
        cache: bool,
        save_models: bool,
        overwrite: bool,
        progress: Callable[[str, str, int], object] | None,
    ) -> tuple[str, int, int, int, str | None]: ...

@final
class Classical:
    @staticmethod
    def fit(
        model: str,
        parameters: str,
        matrix: NDArray[numpy.float32],
        labels: NDArray[numpy.uint32],
        classes: int,
        seed: int,
    ) -> Classical: ...
    def predict_proba(self, matrix: NDArray[numpy.float32]) -> NDArray[numpy.float32]: ...
    @property
    def notes(self) -> list[str]: ...
    def tensor(self, name: str) -> NDArray[numpy.float64] | None: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(bytes: bytes, classes: int) -> Classical: ...

def main(arguments: list[str], program: list[str]) -> int: ...
def project(folder: str | None) -> str: ...
def arrow_stream(names: list[str], columns: list[Sequence[Any]]) -> Stream: ...
def flows(
    captures: list[str],
    *,
    direction: str,
    idle_timeout: float | None,
    active_timeout: float | None,
    activity_timeout: float | None,
    tunnels: str,
    packets: int | None,
    bytes: int | None,
    statistics: bool,
    masks: list[str],
    mask_method: str,
    seed: int,
) -> Stream: ...
def packets(captures: list[str], *, tunnels: str, bytes: int) -> Stream: ...
def classify(model: str, captures: list[str], *, probabilities: bool) -> Stream: ...
def metrics(
    labels: NDArray[numpy.uint32],
    probabilities: NDArray[numpy.float32] | None,
    predictions: NDArray[numpy.uint32] | None,
    classes: int,
) -> list[tuple[str, int | None, int | None, float | None]]: ...
def audit(path: str) -> list[tuple[str, str, str, str, str]]: ...
def find_run(results: str, run: str) -> str: ...
def read_run(folder: str) -> dict[str, Any]: ...
def compare(first: str, second: str) -> tuple[bool, list[tuple[str, list[str], dict[str, list[Any]]]]]: ...
def rank(folders: list[str], metric: str) -> list[dict[str, Any]]: ...
def weights(path: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]: ...
