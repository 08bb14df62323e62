# ruff: noqa: INP001 - Locust is given the file
"""Load on a deployment behind Seldon's ingress: predictions, and feedback for them.

Where to, in the environment: NAMESPACE and DEPLOYMENT, FEATURES of a row, and FEEDBACK_SHARE of the predictions.
"""

from __future__ import annotations

import os
from random import choice, gauss, random, uniform
from typing import Any

from locust import HttpUser, constant_pacing, task

NAMESPACE, DEPLOYMENT = os.environ.get("NAMESPACE", "seldon"), os.environ.get("DEPLOYMENT", "multiclass-model")
FEATURES = int(os.environ.get("FEATURES", "4"))
FEEDBACK_SHARE = float(os.environ.get("FEEDBACK_SHARE", "0.8"))
RIGHT_SHARE = 0.9  # of the predictions are confirmed
PATH = f"/seldon/{NAMESPACE}/{DEPLOYMENT}/api/v1.0"


class Client(HttpUser):
    """Asks for a prediction ten times a second, and says now and then what was true."""

    host = "http://127.0.0.1:8003"  # without --host
    wait_time = constant_pacing(0.1)

    @task
    def predict(self) -> None:
        """The puid of the answer goes along with the feedback, or the two would never meet."""
        row = [round(uniform(0, 8), 1) for _ in range(FEATURES)]  # noqa: S311 - load
        answer = self.client.post(f"{PATH}/predictions", json={"data": {"ndarray": [row]}}, name="predictions")
        if answer.ok and random() < FEEDBACK_SHARE:  # noqa: S311 - load
            predicted = answer.json()["data"]
            body = {"response": {"data": predicted}, "truth": {"data": {"ndarray": [_truth(predicted["ndarray"][0])]}}}
            self.client.post(
                f"{PATH}/feedback", json=body, headers={"Seldon-Puid": answer.headers["Seldon-Puid"]}, name="feedback"
            )


def _truth(predicted: Any) -> Any:
    """A truth for one row of an answer: one-hot for probabilities, a value near by for a value."""
    if not isinstance(predicted, list):
        return predicted + gauss(0, 10)
    classes = range(len(predicted))
    true = predicted.index(max(predicted)) if random() < RIGHT_SHARE else choice(classes)  # noqa: S311 - load
    return [int(true == other) for other in classes]
