"""Shared fixtures: the checkout, and projects with separate folders for results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(os.environ.get("ETCBENCH_CHECKOUT", Path(__file__).parents[2]))

#: Settings small and fast enough for a test: table 2 on the recorded captures.
SMALL = {"data": "lab", "size": "demo", "variants": ["random_split"], "selection__maximum_flows_per_class": 30}


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def captures() -> list[Path]:
    """Some recorded captures."""
    return sorted((CHECKOUT / "data/lab/captures").glob("bot-*.pcap.zst"))[:6]


def make_project(folder: Path) -> Path:
    """A project with the checkout's experiments, data and models, and no results."""
    for name in ("experiments", "data", "models", "paper"):
        (folder / name).symlink_to(CHECKOUT / name)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project shared by tests that only read its run."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def run(shared_project: Path):
    """A stored run of two models with their trained models."""
    import etcbench

    experiment = etcbench.Experiment("table2", models=["random_forest", "knn"], project=shared_project, **SMALL)
    return experiment.run(save_models=True)


def command(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Runs the command line of the installed package."""
    program = Path(sys.executable).with_name("etcbench")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)
