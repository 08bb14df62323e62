# ruff: noqa: INP001 - it lies beside model_server.py
"""Tells predictions to the feedback metrics server, beside the requests: a server that is away makes no answer late."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from typing import NamedTuple
from uuid import uuid4

import urllib3
from prometheus_client import Counter

MAX_WAITING = 10_000
CLOSE_SECONDS = 10
# Sent again under the same id, so that nothing counts twice. 503 comes with Retry-After, which urllib3 keeps.
RETRIES = urllib3.Retry(5, backoff_factor=0.5, status_forcelist=[503], allowed_methods=None)
UNTOLD = Counter("model_server_untold_predictions", "Predictions that the feedback metrics server did not get.")


class Event(NamedTuple):
    """One answer of the model: a row of scores for each row that was asked."""

    request_id: str
    scores: list[list[float]]


class PredictionLog:
    """A queue of events, and the one thread that sends them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(timeout=10, retries=RETRIES)
        self._waiting: Queue[Event | None] = Queue(MAX_WAITING)
        self._sender = Thread(target=self._send_all, daemon=True)
        self._sender.start()

    def tell(self, request_id: str, scores: list[list[float]]) -> None:
        """Queues the answer to a request; when the queue is full, it is counted as untold."""
        try:
            self._waiting.put_nowait(Event(request_id, scores))
        except Full:
            UNTOLD.inc()

    def close(self) -> None:
        """Sends what waits, as far as that takes no longer than a container has to stop."""
        with suppress(Full):
            self._waiting.put(None, timeout=CLOSE_SECONDS)
        self._sender.join(CLOSE_SECONDS)

    def _send_all(self) -> None:
        while event := self._waiting.get():
            try:
                self._send(event)
            except urllib3.exceptions.HTTPError as error:
                UNTOLD.inc()
                logging.getLogger(__name__).warning("The prediction %s is untold: %s", event.request_id, error)

    def _send(self, event: Event) -> None:
        """Posts a CloudEvent in binary mode, as Seldon's executor logs an answer."""
        headers = {
            "Content-Type": "application/json",
            "Ce-Specversion": "1.0",
            "Ce-Id": str(uuid4()),
            "Ce-Source": "/examples/fastapi",
            "Ce-Type": "io.seldon.serving.inference.response",
            "Ce-Requestid": event.request_id,
            "Ce-Namespace": "examples",
            "Ce-Inferenceservicename": "iris",
        }
        body = json.dumps({"data": {"ndarray": event.scores}})
        answer = self._pool.request("POST", self._url, body=body, headers=headers)
        if answer.status != 200:
            raise urllib3.exceptions.HTTPError(f"answered {answer.status}")
