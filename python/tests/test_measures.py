"""Metrics compared with scikit-learn's, the audit, and small tables."""

import numpy
import polars
import pyarrow
import pytest
from sklearn import metrics as theirs

import etcbench


def test_metrics_equal_those_of_scikit_learn():
    random = numpy.random.default_rng(7)
    probabilities = random.dirichlet(numpy.full(5, 0.4), 300).astype("f4")
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = random.integers(0, 5, 300)
    names = list("abcde")
    found = etcbench.metrics(labels, probabilities=probabilities, class_names=names)
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": theirs.accuracy_score(labels, predicted),
        "balanced_accuracy": theirs.balanced_accuracy_score(labels, predicted),
        "macro_f1": theirs.f1_score(labels, predicted, average="macro"),
        "matthews_correlation": theirs.matthews_corrcoef(labels, predicted),
        "log_loss": theirs.log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True, dtype="f8")),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    numpy.testing.assert_array_equal(found.confusion, theirs.confusion_matrix(labels, predicted))
    numpy.testing.assert_allclose(found.classes["f1"], theirs.f1_score(labels, predicted, average=None), atol=1e-12)
    by_name = etcbench.metrics([names[label] for label in labels], [names[label] for label in predicted])
    assert by_name["macro_f1"] == found["macro_f1"] and by_name.class_names == names


def test_what_is_undefined_is_none_and_what_cannot_be_is_told():
    found = etcbench.metrics([0, 0], [0, 0], class_names=["a", "b"])
    assert found.classes.rows()[1]["precision"] is None and numpy.isnan(found.classes["precision"][1])
    for call, message in [
        (lambda: etcbench.metrics([0], [0, 1], class_names=["a", "b"]), "1 labels but 2"),
        (lambda: etcbench.metrics(["a"], ["c"], class_names=["a", "b"]), "'c' is not one of"),
        (lambda: etcbench.metrics([2], [0], class_names=["a", "b"]), "number of classes"),
        (lambda: etcbench.metrics([0], probabilities=[[0.4, 0.4]], class_names=["a", "b"]), "row 0"),
        (lambda: etcbench.metrics([0], class_names=["a", "b"]), "predictions or probabilities"),
    ]:
        with pytest.raises(etcbench.EtcbenchError, match=message):
            call()


def test_the_audit_names_what_cannot_be(checkout, tmp_path):
    found = etcbench.audit(checkout / "paper/published/table3.csv")
    assert "no" in found["possible"] and len(found.where(possible="no")["reason"][0]) > 10
    table = tmp_path / "mine.csv"
    table.write_text("row,metric,value\nchat,precision,0.9\nchat,recall,0.5\nchat,f1,0.95\n")
    assert etcbench.audit(table).where(metric="f1")["possible"].tolist() == ["no"]
    with pytest.raises(etcbench.EtcbenchError, match="nothing.csv"):
        etcbench.audit(tmp_path / "nothing.csv")


def test_frames_go_everywhere():
    frame = etcbench.Frame({"name": ["a", None], "count": [1, 2], "value": [0.5, None], "good": [True, False]})
    table = pyarrow.table(frame)
    assert table.to_pylist() == frame.rows()
    assert polars.DataFrame(frame).to_dicts() == frame.rows() == list(frame)
    assert frame.to_pandas()["count"].tolist() == [1, 2]
    assert frame["count"].dtype == numpy.int64 and frame["value"].dtype == numpy.float64
    assert "<td>a</td>" in frame._repr_html_() and "2 rows" in repr(frame)
    assert len(etcbench.Frame({})) == 0 and len(etcbench.Frame({"a": []})) == 0
    with pytest.raises(KeyError, match="no column 'nmae'"):
        frame["nmae"]
    with pytest.raises(KeyError, match="no column 'nmae'"):
        frame.where(nmae=1)
    with pytest.raises(etcbench.EtcbenchError, match="same number"):
        etcbench.Frame({"a": [1], "b": []})
