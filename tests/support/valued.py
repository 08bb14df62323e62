"""Deployments whose pairs have a value: real patients, and what it costs to be wrong about each kind of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.support.grouped import patients
from tests.support.pages import JSON
from tests.support.running import RunningServer

VALUES = {"true_positive": 10.0, "false_positive": -45.0, "true_negative": 0.0, "false_negative": -20.0}
SERIES = "/v1/models/shop/tumours/main/classifier"
PAGE = f"/ui{SERIES.removeprefix('/v1')}"


def configured(directory: Path, *entries: Mapping[str, object], **settings: object) -> tuple[str, str]:
    """The options of a server with these entries of `deployments`; written whole in place of the last."""
    new, path = directory / "new.json", directory / "valued.json"
    new.write_text(json.dumps({**settings, "deployments": entries}))
    new.replace(path)
    return "--config", str(path)


def send_pairs(server: RunningServer, truths: Sequence[object], predictions: Sequence[object], **more: object) -> None:
    """Sends pairs of the tumours, or of another deployment."""
    labels = {"namespace": "shop", "deployment": "tumours", "predictor": "main", "model": "classifier", **more}
    pairs = zip(truths, predictions, strict=True)
    body = [{**labels, "truth": truth, "prediction": prediction} for truth, prediction in pairs]
    assert server.post(body, JSON, "/v1/feedback").status == 200


def send_patients(server: RunningServer, **more: object) -> np.ndarray:
    """Sends the labelled patients, and returns the value of each by `VALUES`."""
    found = patients()
    truths, scores = found.truths[found.are_labelled], found.scores[found.are_labelled]
    send_pairs(server, truths.tolist(), scores.tolist(), **more)
    return values_of(truths, scores >= 0.5, VALUES)


def values_of(truths: np.ndarray, decisions: np.ndarray, values: Mapping[str, float]) -> np.ndarray:
    """The value of each row, by truth and decision, 0 or 1."""
    hits = np.where(truths, values["true_positive"], values["true_negative"])
    errors = np.where(truths, values["false_negative"], values["false_positive"])
    return np.where(truths == decisions, hits, errors)
