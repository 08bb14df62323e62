"""A deployment with groups: real patients, in groups by the size of their cells, predicted by a poor model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from tests.support.pages import JSON
from tests.support.running import RESPONSE, RunningServer, ce

SLICES = "size=attribute:size"
REFERENCE = "medium"


@dataclass(frozen=True)
class Patients:
    """Rows of the breast cancer data that the model has not seen.

    Attributes:
        sizes: the group of each row: small, medium or large.
        truths: 1 for a benign tumour.
        scores: the probability that the model gives it.
        are_labelled: which of them get a label; of small ones fewer.
    """

    sizes: np.ndarray
    truths: np.ndarray
    scores: np.ndarray
    are_labelled: np.ndarray

    @property
    def decisions(self) -> np.ndarray:
        return (self.scores >= 0.5).astype(int)


def patients() -> Patients:
    """The half of the data that is not for training."""
    data = datasets.load_breast_cancer()
    texture, radius, truths = data.data[:, 1:2], data.data[:, 0], data.target
    training = np.arange(len(truths)) % 2 == 0
    model = LogisticRegression().fit(texture[training], truths[training])
    scores = model.predict_proba(texture[~training])[:, 1]
    sizes = np.array(["small", REFERENCE, "large"])[np.digitize(radius[~training], (12.5, 15.0))]
    are_labelled = np.random.default_rng(1).random(len(scores)) < np.where(sizes == "small", 0.5, 0.9)
    return Patients(sizes, truths[~training], scores, are_labelled)


def send(server: RunningServer, found: Patients) -> None:
    """Sends all predictions, then the labels that there are."""
    events = [_event(n, score, size) for n, (score, size) in enumerate(zip(found.scores, found.sizes, strict=True))]
    assert server.post(events, {"Content-Type": "application/cloudevents-batch+json"}).status == 200
    labels = [
        {"request_id": f"r{n}", "truth": int(truth)}
        for n, (truth, is_labelled) in enumerate(zip(found.truths, found.are_labelled, strict=True))
        if is_labelled
    ]
    assert server.post(labels, JSON, "/v1/feedback").status == 200


def _event(number: int, output: object, size: str) -> dict[str, object]:
    headers = ce(RESPONSE, f"e{number}", f"r{number}", size=size)
    attributes = {key.removeprefix("Ce-").lower(): text for key, text in headers.items() if key.startswith("Ce-")}
    return {**attributes, "data": {"data": {"ndarray": [output]}}}


def send_classes(server: RunningServer, rows: Sequence[tuple[str, str, str]]) -> None:
    """Sends predictions of classes and their labels, as (group, prediction, truth)."""
    events = [_event(n, predicted, size) for n, (size, predicted, _) in enumerate(rows)]
    assert server.post(events, {"Content-Type": "application/cloudevents-batch+json"}).status == 200
    labels = [{"request_id": f"r{n}", "truth": truth} for n, (_, _, truth) in enumerate(rows)]
    assert server.post(labels, JSON, "/v1/feedback").status == 200
