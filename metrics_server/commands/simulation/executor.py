"""Seldon's executor: it picks a predictor for a call, asks its model, responds, and logs what it saw.

Pure but for the clock, the random numbers and the log, which come in, and for the metrics of the platform.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any, NamedTuple

import numpy as np

from metrics_server import __version__
from metrics_server.commands.simulation.cluster import Array, Deployment, Predictor
from metrics_server.commands.simulation.executor_event import (
    FEEDBACK,
    REQUEST,
    RESPONSE,
    Message,
    Origin,
    event,
    new_stamp,
    new_uuid,
)
from metrics_server.commands.simulation.feedback_counts import FeedbackCounts
from metrics_server.commands.simulation.platform_metrics import IMAGE_NAME, PlatformMetrics, Unit

IMAGE = f"{IMAGE_NAME}:{__version__}"
MAX_NUMBER = 1e12  # so that no model answers inf
EMPTY = b'{"data":{"tensor":{"shape":[0]}},"meta":{}}'  # the response to feedback


class BadInput(Exception):
    """A model cannot use what it was sent."""


class Call(NamedTuple):
    """A call of a client, as far as an executor looks at it."""

    body: bytes
    puid: str = ""  # of the header Seldon-Puid
    content_type: str = "application/json"
    is_logged: bool = True


class CallResponse(NamedTuple):
    """Status, puid and JSON of the response to a call."""

    status: int
    puid: str
    body: bytes


class Executor:
    """The executors of all deployments: each call is a call of one model, and is logged in mode `all`."""

    def __init__(self, log: Callable[[Message], None], clock_ns: Callable[[], int], random: Random) -> None:
        self._log, self._clock_ns, self._random = log, clock_ns, random
        self.metrics = PlatformMetrics()
        self._counts: dict[str, FeedbackCounts] = {}  # by the path of the deployment
        self._called: set[str] = set()  # such paths
        # Ids never repeat, or a server that keeps its state would take a second run for repeats of the first.
        self._ids = SystemRandom()

    def predict(self, deployment: Deployment, call: Call) -> CallResponse:
        """Responds with a prediction. Of a call that fails, only the request is logged."""
        predictor, puid = self._balanced(deployment), call.puid or new_uuid(self._ids)
        self._note(REQUEST, deployment, predictor, puid, call)
        unit, began_at = Unit(deployment.name, predictor.name, predictor.node), time.perf_counter()
        try:
            counts = self._counts_of(deployment)
            outputs, body = _reply(predictor, len(deployment.held_out.features), call.body, counts)
        except BadInput as error:
            self.metrics.executor.observe(unit, "predictions", 400, time.perf_counter() - began_at)
            return CallResponse(400, puid, failure(str(error)))
        seconds = time.perf_counter() - began_at
        self.metrics.executor.observe(unit, "predictions", 200, seconds)
        self.metrics.wrapper.observe(unit, outputs, seconds, counts.counts if counts else {})
        self._note(RESPONSE, deployment, predictor, puid, call._replace(body=body, content_type="application/json"))
        return CallResponse(200, puid, body)

    def feedback(self, deployment: Deployment, call: Call) -> CallResponse:
        """Takes feedback, balanced afresh; it is logged before the model sees it, even if it is malformed."""
        predictor, puid = self._balanced(deployment), call.puid or new_uuid(self._ids)
        self._note(FEEDBACK, deployment, predictor, puid, call)
        unit, began_at = Unit(deployment.name, predictor.name, predictor.node), time.perf_counter()
        try:
            feedback = _message(call.body)
            if counts := self._counts_of(deployment):
                counts.take(feedback)
            response = CallResponse(200, puid, EMPTY)
        except BadInput as error:
            response = CallResponse(400, puid, failure(str(error)))
        self.metrics.executor.observe(unit, "feedback", response.status, time.perf_counter() - began_at)
        return response

    def _counts_of(self, deployment: Deployment) -> FeedbackCounts | None:
        """Returns what the model of a deployment counts of its feedback; None if it counts nothing."""
        if deployment.positive is None:
            return None
        return self._counts.setdefault(deployment.path, FeedbackCounts(deployment.positive))

    def _balanced(self, deployment: Deployment) -> Predictor:
        """Draws a predictor by its share; the first call is the first predictor's, for a canary joins what serves."""
        predictors = deployment.predictors
        drawn = self._random.choices(predictors, [predictor.share for predictor in predictors])[0]
        is_first = deployment.path not in self._called
        self._called.add(deployment.path)
        return predictors[0] if is_first else drawn

    def _note(self, kind: str, deployment: Deployment, predictor: Predictor, puid: str, call: Call) -> None:
        if call.is_logged:
            origin = Origin(deployment.namespace, deployment.name, predictor.name, predictor.node)
            self._log(
                event(
                    kind,
                    origin,
                    new_stamp(self._ids, self._clock_ns()),
                    puid,
                    call.body,
                    content_type=call.content_type,
                )
            )


def failure(info: str, reason: str = "MICROSERVICE_BAD_DATA") -> bytes:
    """Returns an error in the form of Seldon's model servers."""
    return json.dumps({"status": {"code": -1, "info": info, "reason": reason, "status": 1}}).encode()


def _reply(predictor: Predictor, columns: int, body: bytes, counts: FeedbackCounts | None) -> tuple[Array, bytes]:
    """Returns the outputs of a model, and the response of the server around it, in the form of the request.

    `counts` are the model's own of its feedback, if it keeps any.
    """
    message = _message(body)
    data, meta = message.get("data"), message.get("meta")
    rows, is_tensor = _rows(data)
    if rows.ndim != 2 or rows.shape[1] != columns or not len(rows):
        raise BadInput(f"want rows of {columns} numbers, got the shape {list(rows.shape)}")
    if not (np.abs(rows) < MAX_NUMBER).all():  # NaN is not less either
        raise BadInput(f"want numbers below {MAX_NUMBER:g}")
    values = predictor.predict(rows)
    names = [f"t:{n}" for n in range(values.shape[1])] if values.ndim > 1 else []
    rows_out = (
        {"tensor": {"shape": values.shape, "values": values.ravel().tolist()}}
        if is_tensor
        else {"ndarray": values.tolist()}
    )
    puid = {"puid": meta["puid"]} if isinstance(meta, dict) and "puid" in meta else {}
    metrics = {"metrics": counts.metrics()} if counts else {}
    response = {
        "data": {"names": names, **rows_out},
        "meta": {**metrics, **puid, "requestPath": {predictor.node: IMAGE}},
    }
    return values, json.dumps(response, separators=(",", ":")).encode()


def _message(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadInput("the body is not a JSON object")
    return message


def _rows(data: Any) -> tuple[Array, bool]:
    """Reads the rows of a request; returns them, and whether they came as a tensor."""
    if isinstance(data, dict):
        tensor = data.get("tensor")
        try:
            if isinstance(tensor, dict):
                return np.array(tensor.get("values"), float).reshape(tensor.get("shape")), True
            if "ndarray" in data:
                return np.array(data["ndarray"], float), False
        except (ValueError, TypeError, OverflowError) as error:
            raise BadInput(f"the rows are no table of numbers: {error}") from error
    raise BadInput("want rows in data.ndarray or data.tensor")
