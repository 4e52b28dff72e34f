"""Encrypted-traffic classification, measured: flows of captures, experiments, stored runs, metrics.

The same program as the command line ``etcbench``, which this package carries too. Long calls release the interpreter lock
and hear Ctrl-C. Tables (`Table`, `Frame`) speak the Arrow PyCapsule interface, so that polars, pandas, pyarrow and DuckDB
take them without copies.

`etcbench.model` is for programs that are external models. Modules that need more than numpy are imported by name:
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
