"""Any scikit-learn estimator as an external model: the protocol's messages, then the harness itself."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import sklearn.ensemble
import sklearn.linear_model
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import etcbench.model
from conftest import SMALL


def talk(estimator, requests, **options):
    """Returns the answers to some requests."""
    answers = io.StringIO()
    asked = io.StringIO("".join(json.dumps(request) + "\n" for request in requests))
    etcbench.model.serve(estimator, requests=asked, answers=answers, **options)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def arrays(folder, rows, classes=3):
    random = numpy.random.default_rng(1)
    numpy.save(folder / "statistics.npy", random.normal(size=(rows, 4)))
    numpy.save(folder / "bytes.npy", random.integers(0, 257, (rows, 2, 3)).astype("u2"))
    numpy.save(folder / "labels.npy", (numpy.arange(rows) % classes).astype("u4"))
    return {"rows": rows, **{name: str(folder / f"{name}.npy") for name in ("statistics", "bytes", "labels")}}


@pytest.mark.parametrize(
    "estimator",
    [
        "sklearn.ensemble.RandomForestClassifier",
        sklearn.linear_model.RidgeClassifier,
        lambda **keys: make_pipeline(StandardScaler(), sklearn.linear_model.LogisticRegression(**keys)),
    ],
)
def test_an_estimator_speaks_the_protocol(estimator, tmp_path):
    data = arrays(tmp_path, 30)
    fit = {"message": "fit", "training": data, "validation": data, "input": "bytes_and_statistics", "seed": 2**40,
           "parameters": {}, "class_names": list("abcd"), "threads": 1}  # fmt: skip
    question = {name: value for name, value in data.items() if name != "labels"}
    predict = {"message": "predict", "answer": str(tmp_path / "answer.npy"), **question}
    saved = {"folder": str(tmp_path), "class_names": list("abcd")}
    first = talk(estimator, [{"message": "describe"}, fit, predict, {"message": "quit"}])
    assert [answer["message"] for answer in first] == ["description", "fitted", "predicted"]
    assert first[0]["protocol"] == "etcbench-model-1" and first[0]["software"]
    answer = numpy.load(tmp_path / "answer.npy")
    assert answer.shape == (30, 4) and answer.dtype == numpy.float64 and (answer[:, 3] == 0).all()
    numpy.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-12)
    if not isinstance(estimator, str):
        return
    # Another process loads what was saved.
    talk(estimator, [fit, {"message": "save", **saved}, {"message": "quit"}])
    talk(estimator, [{"message": "load", **saved}, predict, {"message": "quit"}])
    numpy.testing.assert_array_equal(numpy.load(tmp_path / "answer.npy"), answer)


def test_seed_and_threads_reach_an_estimator_unless_a_key_does():
    made = etcbench.model._made(sklearn.ensemble.RandomForestClassifier, {"n_jobs": 3}, 2**32 + 5, 2)
    assert (made.random_state, made.n_jobs) == (5, 3)


@pytest.fixture
def own_project(checkout, tmp_path, monkeypatch) -> Path:
    """A project with its own models; the Python that runs this test is first on the path."""
    for name in ("experiments", "data", "paper"):
        (tmp_path / name).symlink_to(checkout / name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_a_model_of_one_line_scores_as_by_hand(own_project):
    folder = etcbench.model.write(own_project / "models/extra-trees", "sklearn.ensemble.ExtraTreesClassifier", n_estimators=20)
    with pytest.raises(FileExistsError):
        etcbench.model.write(folder, "sklearn.ensemble.ExtraTreesClassifier")
    experiment = etcbench.Experiment("table2", models=["extra-trees"], project=own_project, **SMALL)
    run = experiment.run()
    features, (split,) = experiment.features(), experiment.splits()
    # External models get statistics in 64 bits, so only bytes are identical here.
    rows = features.bytes.reshape(len(features), -1)
    by_hand = sklearn.ensemble.ExtraTreesClassifier(20, random_state=0).fit(rows[split.training], features.labels[split.training])
    expected = by_hand.predict(rows[split.test])
    found = run.predictions["random_split-extra-trees-bytes-seed0"]
    assert found["flow_id"].tolist() == [features.flow_ids[row] for row in split.test]
    assert found["predicted"].tolist() == [features.class_names[place] for place in expected]


def test_a_program_that_is_no_answer_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from etcbench.model import serve; serve('sklearn.ensemble.NoSuch')"],
        input='{"message": "describe"}\n', capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "NoSuch" in done.stderr and done.stdout == ""
