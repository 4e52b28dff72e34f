"""A benchmark of encrypted-traffic classification: flows of captures, experiments, stored runs, metrics.

This package contains the same program as the command line ``etcbench``, including the command itself. Long calls release the
interpreter lock and can be interrupted with Ctrl-C. Tables (`Table`, `Frame`) implement the Arrow PyCapsule interface, so
polars, pandas, pyarrow and DuckDB can read them without copies.

`etcbench.model` is for programs of external models. Modules that need more than numpy must be imported by name:
`etcbench.sklearn` (scikit-learn) and `etcbench.torch` (PyTorch).
"""

from . import model
from ._native import PAD, EtcbenchError, __version__
from .captures import Table, classify, flows, packets
from .experiment import Experiment, Features, Split
from .frame import Frame
from .measures import Metrics, audit, metrics
from .progress import Event, print_progress
from .run import Comparison, Ranking, Run, compare, rank
from .weights import Weights, weights

__all__ = [
    "PAD",
    "Comparison",
    "EtcbenchError",
    "Event",
    "Experiment",
    "Features",
    "Frame",
    "Metrics",
    "Ranking",
    "Run",
    "Split",
    "Table",
    "Weights",
    "__version__",
    "audit",
    "classify",
    "compare",
    "flows",
    "metrics",
    "model",
    "packets",
    "print_progress",
    "rank",
    "weights",
]
