"""The estimators: scikit-learn's own checks, and the same predictions as scikit-learn if the algorithm is the same."""

import pickle

import numpy
import pytest
import sklearn.datasets
import sklearn.ensemble
import sklearn.neighbors
import sklearn.svm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from etcbench.sklearn import SVC, GradientBoostingClassifier, KNeighborsClassifier, RandomForestClassifier

ALL = [
    SVC(),
    SVC(probability=True),
    RandomForestClassifier(n_estimators=20),
    KNeighborsClassifier(),
    GradientBoostingClassifier(n_estimators=10),
]


#: Checks that cannot pass, and why.
EXPECTED = {
    RandomForestClassifier: {
        "check_class_weight_classifiers": "since 1.9 scikit-learn draws the bootstrap by the classes' weights; here rows count by "
        "them in the trees, as before"
    }
}


@parametrize_with_checks(ALL, expected_failed_checks=lambda estimator: EXPECTED.get(type(estimator), {}))
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    rows, labels = sklearn.datasets.load_digits(return_X_y=True)
    return train_test_split(rows, labels, random_state=0)


def test_answers_are_those_of_scikit_learn(digits):
    training, test, labels, truth = digits
    for ours, theirs in [
        (SVC(C=3.0), sklearn.svm.SVC(C=3.0)),
        (SVC(kernel="poly", coef0=1.0), sklearn.svm.SVC(kernel="poly", coef0=1.0)),
        (SVC(kernel="linear", class_weight="balanced"), sklearn.svm.SVC(kernel="linear", class_weight="balanced")),
        (KNeighborsClassifier(3), sklearn.neighbors.KNeighborsClassifier(3)),
        (KNeighborsClassifier(weights="distance", p=1), sklearn.neighbors.KNeighborsClassifier(weights="distance", p=1)),
    ]:
        found, expected = ours.fit(training, labels).predict(test), theirs.fit(training, labels).predict(test)
        assert (found == expected).mean() >= 0.997, ours
    for ours, theirs in [
        (RandomForestClassifier(random_state=0), sklearn.ensemble.RandomForestClassifier(random_state=0)),
        (GradientBoostingClassifier(), sklearn.ensemble.GradientBoostingClassifier(random_state=0)),
    ]:
        found, expected = ours.fit(training, labels).score(test, truth), theirs.fit(training, labels).score(test, truth)
        assert found >= expected - 0.015, (ours, found, expected)


def test_importances_are_those_of_columns():
    random = numpy.random.default_rng(0)
    rows = random.normal(size=(400, 5))
    forest = RandomForestClassifier(random_state=1).fit(rows, rows[:, 2] > 0)
    assert forest.feature_importances_.argmax() == 2 and forest.feature_importances_.sum() == pytest.approx(1)


def test_they_are_parts_of_scikit_learn(digits):
    training, test, labels, _ = digits
    pipeline = make_pipeline(StandardScaler(), SVC())
    search = GridSearchCV(pipeline, {"svc__C": [0.1, 10.0]}, cv=2).fit(training, labels)
    assert search.best_params_["svc__C"] == 10.0
    assert cross_val_score(KNeighborsClassifier(), training, labels, cv=2, n_jobs=2).mean() > 0.9
    forest = RandomForestClassifier(random_state=3).fit(training, labels)
    again = pickle.loads(pickle.dumps(forest))
    numpy.testing.assert_array_equal(again.predict_proba(test), forest.predict_proba(test))
    numpy.testing.assert_array_equal(clone(forest).fit(training, labels).predict_proba(test), forest.predict_proba(test))
    names = numpy.array(["zero", "one"])[labels % 2]
    assert set(SVC(class_weight={"zero": 2.0}).fit(training, names).predict(test)) == {"zero", "one"}


def test_what_cannot_be_is_told():
    rows = numpy.random.default_rng(0).normal(size=(30, 2))
    labels = numpy.arange(30) % 2
    with pytest.raises(ValueError, match="cost"):
        SVC(C=-1.0).fit(rows, labels)
    with pytest.raises(ValueError, match="p = 3"):
        KNeighborsClassifier(p=3).fit(rows, labels)
    with pytest.raises(ValueError, match="32 bits"):
        KNeighborsClassifier().fit(rows * 1e300, labels)
    assert not hasattr(SVC(), "predict_proba")
