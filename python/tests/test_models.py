"""The models in `models/` that need more packages than the tests of the command line have."""

import os
import shutil
import sys
from pathlib import Path

import numpy
import pytest

import etcbench
from conftest import SMALL, command


@pytest.fixture
def own_project(project, monkeypatch) -> Path:
    """A project; the Python that runs this test is first on the path."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return project


def fitted(project, model, **keys):
    """Returns features, the split, and the stored probabilities of its test rows."""
    size = {"feature": {"packets": 3, "bytes": 40}, **SMALL}
    experiment = etcbench.Experiment("table2", models=[model], project=project, model={model: keys}, **size)
    run = experiment.run()
    assert not run.information.get("failures"), run.information["failures"]
    features, (split,) = experiment.features(), experiment.splits()
    (predictions,) = run.predictions.values()
    assert predictions["flow_id"].tolist() == [features.flow_ids[row] for row in split.test]
    stored = numpy.stack([predictions[f"probability_{name}"] for name in features.class_names], axis=1)
    return features, split, stored, run


def test_naive_bayes_in_cpp_is_scikit_learns(own_project, checkout):
    if shutil.which("c++") is None:
        pytest.skip("c++ is not here")
    from sklearn.naive_bayes import GaussianNB

    # The model builds in its folder, so it gets a copy instead of the checkout's.
    (own_project / "models").unlink()
    shutil.copytree(checkout / "models/naive-bayes-cpp", own_project / "models/naive-bayes-cpp")
    checked = command("--project", own_project, "model", "check", "naive-bayes-cpp", cwd=own_project)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for given in ("statistics", "bytes"):
        features, split, stored, _ = fitted(own_project, "naive-bayes-cpp", input=given)
        rows = getattr(features, given).reshape(len(features), -1).astype("f8")
        by_hand = GaussianNB().fit(rows[split.training], features.labels[split.training])
        numpy.testing.assert_allclose(stored, by_hand.predict_proba(rows[split.test]), atol=1e-5)


def test_lightgbm_is_what_it_is_by_hand(own_project):
    lightgbm = pytest.importorskip("lightgbm")
    features, split, stored, _ = fitted(own_project, "lightgbm", n_estimators=10)
    rows = features.bytes.reshape(len(features), -1)
    settings = {"deterministic": True, "force_row_wise": True, "verbosity": -1, "n_jobs": 2, "random_state": 0}
    by_hand = lightgbm.LGBMClassifier(n_estimators=10, **settings)
    by_hand.fit(rows[split.training], features.labels[split.training])
    expected = by_hand.booster_.predict(rows[split.test])
    numpy.testing.assert_allclose(stored, expected, atol=1e-6)


def test_the_network_in_pytorch_learns_from_our_elmo(own_project, checkout):
    pytest.importorskip("torch")
    (own_project / "models").unlink()
    folder = own_project / "models/attention-lstm-torch"
    shutil.copytree(checkout / "models/attention-lstm-torch", folder)
    settings = ["--set", "model.attention_lstm.elmo.embedding=16", "--set", "model.attention_lstm.elmo.hidden=16"]
    settings += ["--set", "model.attention_lstm.elmo.epochs=1", "--set", "model.attention_lstm.elmo.corpus_packets=2000"]
    settings += ["--set", "feature.packets=3", "--set", "feature.bytes=40"]
    made = command("--project", own_project, "pretrain", "lab", *settings, "-o", folder / "elmo.safetensors", cwd=own_project)
    assert made.returncode == 0, made.stderr
    keys = {"epochs": 8, "batch": 8, "lstm": 32, "elmo": "elmo.safetensors", "encoder_rate": 1e-3}
    features, split, stored, run = fitted(own_project, "attention-lstm-torch", **keys)
    measured = etcbench.metrics(features.labels[split.test], probabilities=stored, class_names=features.class_names)
    assert measured["macro_f1"] > 0.3
    curve = run.curves(model="attention-lstm-torch").where(metric="classifier_training_training_loss")
    assert curve["value"][-1] < curve["value"][0]
