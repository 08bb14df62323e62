"""The simulated cluster: models of scikit-learn, and the rows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Predict: TypeAlias = "Callable[[Array], Array]"

NAMESPACE = "seldon"
# Shares of the rows to learn from: so small that the models are wrong now and then.
IRIS_SHARE, DIGITS_SHARE, DIABETES_SHARE = 0.2, 0.1, 0.5
CANARY_SHARE = 0.25  # of the calls
CANARY_PIXELS = 24  # of 64: with these the canary is right for 69 % of the digits, not for 92 %
VIRGINICA = 2  # the class of iris flowers that its model counts against the rest
CONSTANT_PRICE = 100.0  # what the bad canary answers, whatever the house
# The body mass index, two standard deviations off in the end: the mean error grows by a half.
DRIFT_COLUMN, DRIFT = 2, 0.1


class Failed(Exception):
    """The simulation cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Predictor:
    """A predictor of a deployment: a graph of one node, and its share of the calls."""

    name: str
    node: str
    predict: Predict  # shape (n, features) to (n, classes), or to (n,)
    share: float = 1.0


@dataclass(frozen=True)
class HeldOut:
    """The rows that a model was not trained on, and their truths: class indexes, or values.

    Without any the simulation makes no calls of its own.
    """

    features: list[str]
    rows: Array
    truths: list[float]
    classes: int = 0  # 0: a regression
    drift: tuple[int, float] | None = None  # a column, and the offset of its values in the end


@dataclass(frozen=True)
class Deployment:
    """A deployment of the cluster; its first predictor served before the others came."""

    namespace: str
    name: str
    predictors: tuple[Predictor, ...]
    held_out: HeldOut
    delay_factor: float = 1.0  # how much longer its labels take than others
    positive: int | None = None  # the class that its model counts against the rest, see `FeedbackCounts`

    @property
    def path(self) -> str:
        """Namespace and name, as they stand in the paths of the ingress."""
        return f"{self.namespace}/{self.name}"


def cluster() -> dict[str, Deployment]:
    """Trains all deployments; returns them by path, the same every time.

    Raises:
        Failed: scikit-learn is missing.
    """
    try:
        import sklearn  # noqa: F401 - asked for here, where a sentence can be said about it
    except ImportError as error:
        raise Failed("the simulation needs scikit-learn: pip install scikit-learn (the extra demo)") from error
    return {deployment.path: deployment for deployment in (_iris(), _digits(), _diabetes(), _house_price())}


def called(deployments: Mapping[str, Deployment]) -> dict[str, Deployment]:
    """Selects the deployments that the simulation calls itself; others have no rows to ask about."""
    return {path: deployment for path, deployment in deployments.items() if deployment.held_out.truths}


def _iris() -> Deployment:
    from sklearn.datasets import load_iris

    training, labels, held_out = _split(load_iris(), IRIS_SHARE, classes=3)
    predictor = Predictor("default", "classifier", _classifier(training, labels))
    return Deployment(NAMESPACE, "multiclass-model", (predictor,), held_out, positive=VIRGINICA)


def _digits() -> Deployment:
    from sklearn.datasets import load_digits

    training, labels, held_out = _split(load_digits(), DIGITS_SHARE, classes=10)
    canary = _classifier(training[:, :CANARY_PIXELS], labels)
    predictors = (
        Predictor("main", "classifier", _classifier(training, labels), 1 - CANARY_SHARE),
        Predictor("canary", "classifier", lambda rows: canary(rows[:, :CANARY_PIXELS]), CANARY_SHARE),
    )
    return Deployment(NAMESPACE, "digits", predictors, held_out)


def _diabetes() -> Deployment:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    training, values, held_out = _split(load_diabetes(), DIABETES_SHARE, classes=0, drift=(DRIFT_COLUMN, DRIFT))
    predictor = Predictor("default", "regressor", LinearRegression().fit(training, values).predict)
    return Deployment(NAMESPACE, "diabetes", (predictor,), held_out, delay_factor=10)


def _house_price() -> Deployment:
    """Serves the models of deploy/examples/seldon/bad-canary.yaml, which are only asked from outside."""
    price_of = np.array([2_500.0, 8_000.0])  # of a square metre, and of a room
    predictors = (
        Predictor("main", "regressor", lambda rows: 20_000 + rows @ price_of, 0.5),
        Predictor("canary", "regressor", lambda rows: np.full(len(rows), CONSTANT_PRICE), 0.5),
    )
    return Deployment(NAMESPACE, "house-price", predictors, HeldOut(["area", "rooms"], np.empty((0, 2)), []))


def _split(
    bunch: Any, share: float, *, classes: int, drift: tuple[int, float] | None = None
) -> tuple[Array, Array, HeldOut]:
    """Returns the rows to learn from, their truths, and the rows held out."""
    from sklearn.model_selection import train_test_split

    training, rows, labels, truths = train_test_split(
        bunch.data, bunch.target, train_size=share, stratify=bunch.target if classes else None, random_state=0
    )
    return training, labels, HeldOut([str(name) for name in bunch.feature_names], rows, truths.tolist(), classes, drift)


def _classifier(rows: Array, labels: Array) -> Predict:
    """Fits a model that predicts the probabilities of the classes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, labels)
    predict: Predict = fitted.predict_proba
    return predict
