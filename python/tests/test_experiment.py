"""Experiments and stored runs from Python, compared with what the command line writes and stores."""

import json
import signal
import threading

import numpy
import polars
import pytest

import etcbench
from conftest import SMALL, command


def test_features_and_splits_are_those_of_export(project):
    experiment = etcbench.Experiment("table2", models=["random_forest"], project=project, **SMALL)
    folder = project / "arrays"
    words = ["--data", "lab", "--size", "demo", "--variants", "random_split"]
    setting = ["--set", "selection.maximum_flows_per_class=30"]
    assert command("--project", project, "export", "table2", *words, *setting, "-o", folder).returncode == 0
    folder /= "random_split"
    features = experiment.features()
    assert features.bytes.dtype == numpy.uint16 and features.bytes.shape == (len(features), 6, 128)
    for name in ("bytes", "statistics", "labels"):
        exported = numpy.load(folder / f"{name}.npy")
        numpy.testing.assert_array_equal(exported.reshape(getattr(features, name).shape), getattr(features, name), name)
    assert (folder / "flow_ids.txt").read_text().splitlines() == features.flow_ids
    (split,) = experiment.splits()
    parts = [split.training, split.validation, split.test]
    assert sorted(numpy.concatenate(parts).tolist()) == list(range(len(features)))
    assert len(numpy.unique(features.labels)) == len(features.class_names) == 10
    assert experiment.leaks()[0]["test_flows"] == len(split.test)


def test_keys_are_given_in_any_of_three_forms(checkout):
    def packets(**keys):
        return etcbench.Experiment("table2", project=checkout, **keys).resolved

    forms = [packets(feature__packets=8), packets(feature={"packets": 8}), packets(**{"feature.packets": 8})]
    assert forms[0] == forms[1] == forms[2] != packets()
    with pytest.raises(etcbench.EtcbenchError, match="packets"):
        packets(feature__packet=8)
    with pytest.raises(etcbench.EtcbenchError, match="trees"):
        keys = {"model__random_forest__n_estimators": 8, **SMALL}
        etcbench.Experiment("table2", project=checkout, models=["random_forest"], **keys).run(cache=False)
    with pytest.raises(etcbench.EtcbenchError, match="did you mean `table2`"):
        etcbench.Experiment("tabel2", project=checkout)
    with pytest.raises(etcbench.EtcbenchError, match="variant"):
        etcbench.Experiment("table2", project=checkout, data="lab").features("random_splt")


def test_a_run_is_stored_and_read_back(run):
    assert run.changes == [] and run.folder.is_dir()
    scores = run.records.where(metric="macro_f1", class_=None)
    assert len(scores) == 4 and ((scores["value"] > 0.3) & (scores["value"] <= 1)).all()
    name = "random_split-random_forest-statistics-seed0"
    assert name in run.predictions and "table2" in run.tables
    predictions = run.predictions[name]
    measured = etcbench.metrics(predictions["class"], predictions["predicted"])
    row = {"variant": "random_split", "model": "random_forest", "input": "statistics"}
    stored = run.records.where(metric="accuracy", class_=None, **row)
    assert measured["accuracy"] == stored["value"][0]
    matrix, names = run.confusion(**row)
    numpy.testing.assert_array_equal(matrix[numpy.ix_(*[numpy.argsort(names)] * 2)], measured.confusion)
    with pytest.raises(etcbench.EtcbenchError, match="name one row"):
        run.confusion(model="random_forest")
    assert len(run.curves()) == 0
    assert run.information["experiment"] == "table2" and "[selection]" in run.experiment
    assert polars.DataFrame(run.tables["table2"]).height == len(run.tables["table2"])
    again = etcbench.Run(run.name, project=run.folder.parent.parent)
    assert again.records["value"].tolist()[:3] == run.records["value"].tolist()[:3]
    with pytest.raises(etcbench.EtcbenchError, match="no stored run"):
        etcbench.Run("table9", project=run.folder.parent.parent)


def test_the_project_is_found_from_any_folder_below_it(run, shared_project, monkeypatch):
    below = shared_project / "notebooks/mine"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    experiment = etcbench.Experiment("table2", models=["random_forest", "knn"], **SMALL)
    assert experiment.folder.resolve() == run.folder.resolve()
    assert etcbench.Run(run.name).folder.resolve() == run.folder.resolve()
    assert etcbench.compare(run.name, run).same_results
    with pytest.raises(etcbench.EtcbenchError, match="did you mean `table2`"):
        etcbench.Experiment("tabel2")
    # A folder that is given is the project, as --project is.
    assert etcbench.Experiment("table2", project=below, **SMALL).folder.resolve() != run.folder.resolve()


def test_the_command_line_has_the_same_results(run, shared_project, project):
    words = ["--data", "lab", "--size", "demo", "--variants", "random_split", "--models", "random_forest,knn"]
    done = command(
        "--project", project, "run", "experiments/table2.toml", *words, "--set", "selection.maximum_flows_per_class=30",
        cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = project.glob("results/table2*")
    assert folder.name == run.name
    compared = etcbench.compare(run, folder)
    assert compared.same_results and any("result" in title.lower() for title in compared.tables)


def test_what_was_edited_is_named(project):
    experiment = etcbench.Experiment("table2", models=["knn"], project=project, **SMALL)
    told = []
    run = experiment.run(progress=told.append)
    assert any(event.kind == "begin" and "fits" in event.text for event in told)
    assert sum(event.number for event in told if event.kind == "advance") > 0
    path = next(run.folder.glob("predictions/*.csv"))
    path.write_text(path.read_text().replace("dash", "hls", 1))
    assert any(path.name in change for change in etcbench.Run(run.folder).changes)


def test_models_are_ranked_over_tables(shared_project, run):
    models = ["random_forest", "knn", "logistic_regression"]
    other = etcbench.Experiment("table3", models=models, project=shared_project, **SMALL).run()
    (ranking,) = etcbench.rank([run, other.name], project=shared_project)
    assert len(ranking.models) == 4 and ranking.models["mean_rank"].tolist() == sorted(ranking.models["mean_rank"])
    assert ranking.variant == "random_split" and len(ranking.tables) == 2
    assert ranking.left_out["model"].tolist() == ["logistic_regression"]
    assert len(ranking.failed) == 0 and ranking.failed.columns == ["model", "input", "implementation", "tables"]


def test_an_interrupt_stops_a_run_and_the_same_call_goes_on(project):
    experiment = etcbench.Experiment(
        "table2", data="lab", size="demo", models=["attention_lstm"], variants=["random_split"], project=project
    )
    begun = threading.Event()
    # Python installs no handler if it was started with interrupts ignored, like background jobs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(event):
        if event.kind == "note" and not begun.is_set():
            begun.set()
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            experiment.run(progress=tell)
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun.is_set() and not experiment.folder.exists()
    # The interpreter and the library still work.
    small = etcbench.Experiment("table2", models=["knn"], project=project, **SMALL)
    assert len(small.run().records) > 0


def test_an_exception_of_the_listener_reaches_the_caller(project):
    def tell(event):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        etcbench.Experiment("table2", models=["knn"], project=project, **SMALL).run(progress=tell)


def test_weights_are_arrays_by_name(run):
    weights = etcbench.weights(run.models["random_split-knn-statistics-seed0"])
    assert weights.metadata["model"] == "knn" and len(weights.description["classes"]) == 10
    assert all(isinstance(array, numpy.ndarray) for array in weights.arrays.values())
    assert json.loads(weights.metadata["columns"])[0] == weights.description["statistic_names"][0]
    with pytest.raises(etcbench.EtcbenchError):
        etcbench.weights(run.folder / "run.json")
