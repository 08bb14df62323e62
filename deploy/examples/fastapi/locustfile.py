# ruff: noqa: INP001 - Locust is given the file
"""Load on the model server: predictions, and the truths of four fifths of them.

FEEDBACK_URL in the environment is the address of the feedback metrics server.
"""

from __future__ import annotations

import os
from random import Random

from flower import flower, question, statement
from locust import HttpUser, constant_pacing, task

FEEDBACK_URL = os.environ.get("FEEDBACK_URL", "http://127.0.0.1:8080")
LABEL_SHARE = 0.8
RANDOM = Random()  # noqa: S311 - load


class Botanist(HttpUser):
    """Asks about a flower every second, and mostly says afterwards what it was."""

    wait_time = constant_pacing(1)

    @task
    def predict(self) -> None:
        """The id of the answer goes along with the truth, so that the two meet."""
        asked = flower(RANDOM)
        answer = self.client.post("/predict", json=question(asked))
        if answer.ok and RANDOM.random() < LABEL_SHARE:
            body = statement(asked, answer.json()["request_id"])
            self.client.post(f"{FEEDBACK_URL}/v1/feedback", json=body, name="/v1/feedback")
