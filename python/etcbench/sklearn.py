"""etcbench's fast classical models as scikit-learn estimators, for any matrix of numbers.

`SVC`, `RandomForestClassifier`, `KNeighborsClassifier` and `GradientBoostingClassifier` use scikit-learn's parameter names and
pass its `check_estimator`. They compute with 32-bit floats on all threads of the machine (set ``RAYON_NUM_THREADS`` to change
that), produce the same bits with any number of threads, and release the interpreter lock. `benches/README.md` compares their
speed with scikit-learn and XGBoost.

Not supported: `sample_weight`, sparse matrices, missing values and `decision_function`.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import numpy
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from . import _native

__all__ = ["SVC", "GradientBoostingClassifier", "KNeighborsClassifier", "RandomForestClassifier"]


def _toml(value: Any) -> str:
    """Format a value as TOML, a dictionary as an inline table."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (numpy.integer, numpy.floating)):
        value = value.item()
    return json.dumps(value)


class _Fitted:
    """A fitted model of the native half that can be copied and pickled."""

    def __init__(self, model: _native.Classical, classes: int) -> None:
        self.model = model
        self.classes = classes

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.model.to_bytes(), self.classes)


def _restored(content: bytes, classes: int) -> _Fitted:
    return _Fitted(_native.Classical.from_bytes(content, classes), classes)


class _Classifier(ClassifierMixin, BaseEstimator):
    """Base of the four estimators."""

    #: The name in etcbench's table of models.
    _model: str
    random_state: Any = None

    def _keys(self, rows: int) -> dict[str, Any]:
        """Return the keys of the model's table; None omits a key."""
        raise NotImplementedError

    def _weights(self, classes: numpy.ndarray) -> Any:
        """Convert `class_weight` to class indices."""
        given = getattr(self, "class_weight", None)
        if isinstance(given, dict):
            return {str(place): float(given.get(name, 1.0)) for place, name in enumerate(classes.tolist())}
        return given

    def fit(self, X: ArrayLike, y: ArrayLike) -> _Classifier:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite numbers, converted to 32-bit floats.
        y : array-like of shape (n_samples,)
            The classes.

        Returns
        -------
        self
        """
        rows, targets = validate_data(self, X, y)
        check_classification_targets(targets)
        self.classes_, labels = numpy.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            one = f"{type(self).__name__} needs samples of at least 2 classes, and there is one class only: {targets[0]!r}"
            raise ValueError(one)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._fitted = self._fit(self._keys(len(rows)), rows, labels, seed)
        return self

    def _fit(self, keys: dict[str, Any], X: numpy.ndarray, labels: numpy.ndarray, seed: int) -> _Fitted:
        keys = {name: value for name, value in keys.items() if value is not None}
        if (weights := self._weights(self.classes_)) is not None:
            keys["class_weights"] = weights
        text = "".join(f"{name} = {_toml(value)}\n" for name, value in keys.items())
        labels = numpy.ascontiguousarray(labels, dtype=numpy.uint32)
        model = _native.Classical.fit(self._model, text, _single(X), labels, len(self.classes_), seed)
        return _Fitted(model, len(self.classes_))

    def _asked(self, fitted: str, X: ArrayLike) -> numpy.ndarray:
        """Return a fitted model's probabilities for rows, in 32 bits."""
        check_is_fitted(self)
        rows: numpy.ndarray = validate_data(self, X, reset=False)
        model: _native.Classical = getattr(self, fitted).model
        return model.predict_proba(_single(rows))

    def predict(self, X: ArrayLike) -> numpy.ndarray:
        """Predict the class of every row: the one with the highest probability, the lowest class on ties.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        numpy.ndarray of shape (n_samples,)
        """
        probabilities = self._asked("_fitted", X)
        predicted: numpy.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return predicted


class _WithProbabilities(_Classifier):
    def predict_proba(self, X: ArrayLike) -> numpy.ndarray:
        """Predict the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        numpy.ndarray of float64, shape (n_samples, n_classes)
            Columns in the order of `classes_`; rows sum to 1.
        """
        return _normalised(self._asked("_fitted", X))


def _normalised(probabilities: numpy.ndarray) -> numpy.ndarray:
    """Normalise rows to sum to 1 in 64 bits."""
    found: numpy.ndarray = probabilities.astype(numpy.float64)
    found /= found.sum(axis=1, keepdims=True)
    return found


def _single(X: numpy.ndarray) -> numpy.ndarray:
    """Convert a matrix to 32-bit floats."""
    X = numpy.asarray(X)
    with numpy.errstate(over="ignore"):
        single = numpy.ascontiguousarray(X, dtype=numpy.float32)
    if not numpy.isfinite(single).all():
        raise ValueError("X has a value that is too large for 32 bits; scale it first")
    return single


def _at_least(value: int | float, rows: int, least: int) -> int:
    """Return a number of rows, given as a number or a share, as scikit-learn interprets it."""
    return max(least, math.ceil(value * rows)) if isinstance(value, float) else int(value)


class SVC(_Classifier):
    """Support vector machine, one against one, as libsvm and scikit-learn define it.

    Parameters
    ----------
    C : float
        Penalty of a row on the wrong side of its margin.
    kernel : {'rbf', 'poly', 'linear'}
    degree : int
        Degree of the polynomial kernel.
    gamma : {'scale', 'auto'} or float
    coef0 : float
        Constant term of the polynomial kernel.
    probability : bool
        Whether to provide `predict_proba`: coupled Platt sigmoids from five-fold cross-validation. As in scikit-learn, the
        class with the most votes is predicted, which need not be the most probable one.
    tol : float
        Largest violation of optimality at which the solver stops.
    cache_size : int
        MiB for kernel rows.
    class_weight : dict, 'balanced' or None
    random_state : int, RandomState or None
        Seed of the cross-validation.
    """

    _model = "svm"

    def __init__(
        self,
        *,
        C: float = 1.0,
        kernel: Literal["rbf", "poly", "linear"] = "rbf",
        degree: int = 3,
        gamma: Literal["scale", "auto"] | float = "scale",
        coef0: float = 0.0,
        probability: bool = False,
        tol: float = 1e-3,
        cache_size: int = 200,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        random_state: Any = None,
    ) -> None:
        self.C = C
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.probability = probability
        self.tol = tol
        self.cache_size = cache_size
        self.class_weight = class_weight
        self.random_state = random_state

    def _keys(self, rows: int) -> dict[str, Any]:
        return {
            "cost": float(self.C),
            "kernel": "polynomial" if self.kernel == "poly" else self.kernel,
            "degree": int(self.degree),
            "gamma": self.gamma if isinstance(self.gamma, str) else float(self.gamma),
            "coef0": float(self.coef0),
            "probabilities": "softmax",
            "tolerance": float(self.tol),
            "cache_mebibytes": int(self.cache_size),
            "standardise": False,
            "log_scale": False,
        }

    def _fit(self, keys: dict[str, Any], X: numpy.ndarray, labels: numpy.ndarray, seed: int) -> _Fitted:
        if self.probability:
            self._platt = super()._fit({**keys, "probabilities": "platt"}, X, labels, seed)
        return super()._fit(keys, X, labels, seed)

    @available_if(lambda self: self.probability)
    def predict_proba(self, X: ArrayLike) -> numpy.ndarray:
        """Predict the probability of every class; only with ``probability=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        numpy.ndarray of float64, shape (n_samples, n_classes)
            Columns in the order of `classes_`; rows sum to 1.
        """
        return _normalised(self._asked("_platt", X))


class RandomForestClassifier(_WithProbabilities):
    """Random forest of trees grown by Gini impurity on bootstrap samples.

    Parameters
    ----------
    n_estimators : int
        Number of trees.
    max_depth : int or None
    min_samples_split, min_samples_leaf : int or float
        A number of rows, or a share of them.
    max_features : {'sqrt', 'log2'}, int, float or None
        Number of columns considered at a node; None for all.
    class_weight : dict, 'balanced' or None
    random_state : int, RandomState or None

    Attributes
    ----------
    feature_importances_ : numpy.ndarray of shape (n_features,)
        Share of the total decrease in impurity.
    """

    _model = "random_forest"

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        max_depth: int | None = None,
        min_samples_split: int | float = 2,
        min_samples_leaf: int | float = 1,
        max_features: Literal["sqrt", "log2"] | int | float | None = "sqrt",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.class_weight = class_weight
        self.random_state = random_state

    def _keys(self, rows: int) -> dict[str, Any]:
        return {
            "trees": int(self.n_estimators),
            "maximum_depth": self.max_depth,
            "minimum_samples_split": _at_least(self.min_samples_split, rows, 2),
            "minimum_samples_leaf": _at_least(self.min_samples_leaf, rows, 1),
            "maximum_features": 1.0 if self.max_features is None else self.max_features,
        }

    @property
    def feature_importances_(self) -> numpy.ndarray:
        check_is_fitted(self)
        found = self._fitted.model.tensor("importances")
        assert found is not None
        return found


class KNeighborsClassifier(_WithProbabilities):
    """k-nearest neighbours by exhaustive search.

    Parameters
    ----------
    n_neighbors : int
        Number of neighbours that vote.
    weights : {'uniform', 'distance'}
    p : {1, 2}
        Power of the Minkowski metric: 1 for Manhattan, 2 for Euclidean distances.
    metric : {'minkowski', 'euclidean', 'manhattan', 'cosine'}
    """

    _model = "knn"

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        weights: Literal["uniform", "distance"] = "uniform",
        p: Literal[1, 2] = 2,
        metric: Literal["minkowski", "euclidean", "manhattan", "cosine"] = "minkowski",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.p = p
        self.metric = metric

    def _keys(self, rows: int) -> dict[str, Any]:
        metric = self.metric
        if metric == "minkowski":
            if self.p not in (1, 2):
                raise ValueError(f"p = {self.p!r}: must be 1 (manhattan) or 2 (euclidean)")
            metric = "manhattan" if self.p == 1 else "euclidean"
        keys = {"k": int(self.n_neighbors), "weights": self.weights, "distance": metric}
        return {**keys, "standardise": False, "log_scale": False}


class GradientBoostingClassifier(_WithProbabilities):
    """Gradient-boosted trees with the softmax objective and second derivatives, as in XGBoost.

    Defaults are those of scikit-learn if it has the parameter, otherwise those of XGBoost.

    Parameters
    ----------
    n_estimators : int
        Number of boosting rounds.
    learning_rate : float
        Factor on every tree's output.
    max_depth : int
    subsample : float
        Share of the rows used for each tree.
    colsample : float
        Share of the columns used for each tree.
    l1_regularization, l2_regularization : float
        Penalties on leaf values.
    min_child_weight : float
        Smallest sum of second derivatives in a leaf.
    min_split_loss : float
        Smallest gain of a split.
    max_bins : int
        Largest number of histogram bins per column.
    random_state : int, RandomState or None
    """

    _model = "gradient_boosting"

    def __init__(
        self,
        *,
        n_estimators: int = 100,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        subsample: float = 1.0,
        colsample: float = 1.0,
        l1_regularization: float = 0.0,
        l2_regularization: float = 1.0,
        min_child_weight: float = 1.0,
        min_split_loss: float = 0.0,
        max_bins: int = 256,
        random_state: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.subsample = subsample
        self.colsample = colsample
        self.l1_regularization = l1_regularization
        self.l2_regularization = l2_regularization
        self.min_child_weight = min_child_weight
        self.min_split_loss = min_split_loss
        self.max_bins = max_bins
        self.random_state = random_state

    def _keys(self, rows: int) -> dict[str, Any]:
        return {
            "rounds": int(self.n_estimators),
            "depth": int(self.max_depth),
            "learning_rate": float(self.learning_rate),
            "subsample": float(self.subsample),
            "column_sample": float(self.colsample),
            "l1": float(self.l1_regularization),
            "l2": float(self.l2_regularization),
            "minimum_child_weight": float(self.min_child_weight),
            "minimum_split_loss": float(self.min_split_loss),
            "maximum_bins": int(self.max_bins),
        }
