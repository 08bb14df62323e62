"""Deployments that share a server, what is sent for them, and their own samples of its page."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.exposed import samples_of_parts
from tests.support.running import FEEDBACK, RESPONSE, Answer, RunningServer, ce

MINUTE, HOUR, DAY = 60, 3600, 86400
KSERVE_REQUEST, KSERVE_RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
RETENTION = 35 * DAY  # the default

_numbers = itertools.count()


class _Clock:
    """Stands still while a test runs, so that the differences of its times are exact, however slow it is."""

    now = int(time.time())


def set_clock() -> None:
    """Begins a test: its times are told from now on."""
    _Clock.now = int(time.time())


def ago(seconds: float) -> float:
    """A whole second before the test began."""
    return float(_Clock.now - seconds)


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


class Page:
    """The samples of one deployment on /v1/metrics, all of one moment."""

    def __init__(self, text: str, deployment: str) -> None:
        own = [line for line in text.splitlines(keepends=True) if f'deployment_name="{deployment}"' in line]
        self.samples = samples_of_parts(own)

    def __call__(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with this name and these labels, None without any."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def by(self, name: str, *keys: str, **labels: str) -> dict[Any, float]:
        """What is not 0, by one label or by several."""
        found: dict[Any, float] = {}
        for s in self.samples:
            if s.name == name and labels.items() <= s.labels.items() and s.value:
                key = tuple(s.labels.get(one, "") for one in keys)
                found[key[0] if len(keys) == 1 else key] = found.get(key[0] if len(keys) == 1 else key, 0.0) + s.value
        return found

    def cells(self, **labels: str) -> dict[tuple[str, str], float]:
        """All pairs that stand, by truth and prediction."""
        net = self.by("model_confusion_total", "truth", "prediction", **labels)
        for cell, count in self.by("model_confusion_retracted_total", "truth", "prediction", **labels).items():
            net[cell] = net[cell] - count
        return {cell: count for cell, count in net.items() if count}

    def statuses(self, **labels: str) -> dict[str, float]:
        return self.by("model_labels_total", "status", **labels)

    def windows(self, name: str = "model_support", **labels: str) -> dict[str, float]:
        return self.by(name, "window", **labels)

    def numbers(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """All that is said about models, without what tells the time."""
        return {
            (s.name, frozenset(s.labels.items())): s.value
            for s in self.samples
            if "timestamp" not in s.name and not s.name.startswith("metrics_server_")
        }


class Deployment:
    """A deployment that no other test knows, on a server that they may share. Request ids are its own too."""

    def __init__(self, server: RunningServer, name: str = "") -> None:
        self.server = server
        self.name = name or f"d{next(_numbers)}"

    def id(self, request_id: str) -> str:
        return f"{self.name}-{request_id}"

    def headers(self, kind: str, request_id: str = "", at: float | None = None, **extensions: str) -> dict[str, str]:
        extensions = {"inferenceservicename": self.name, **extensions}
        if at is not None:
            extensions["time"] = stamp(at)
        return ce(kind, f"e{next(_numbers)}", self.id(request_id) if request_id else "", **extensions)

    def send(self, kind: str, body: Any, request_id: str = "", at: float | None = None, **extensions: str) -> Answer:
        answer = self.server.post(body, self.headers(kind, request_id, at, **extensions))
        assert answer.status == 200, answer.body
        assert answer.body == b""
        return answer

    def predict(
        self, request_id: str, *rows: Any, at: float | None = None, meta: Any = None, **extensions: str
    ) -> None:
        body = {"data": {"ndarray": list(rows)}, **({"meta": meta} if meta else {})}
        self.send(RESPONSE, body, request_id, at, **extensions)

    def truth(self, request_id: str, *rows: Any, at: float | None = None, **extensions: str) -> None:
        self.send(FEEDBACK, {"truth": {"data": {"ndarray": list(rows)}}}, request_id, at, **extensions)

    def pair(self, request_id: str, truth: Any, prediction: Any, at: float | None = None, **extensions: str) -> None:
        """Feedback that carries its response."""
        body = {"response": {"data": {"ndarray": [prediction]}}, "truth": {"data": {"ndarray": [truth]}}}
        self.send(FEEDBACK, body, request_id, at, **extensions)

    def tell(self, **statement: Any) -> str:
        """One row of truth in plain JSON; what became of it."""
        if "request_id" in statement:
            statement["request_id"] = self.id(statement["request_id"])
        answer = self.server.post(statement, {"Content-Type": "application/json"}, "/v1/feedback")
        assert answer.status == 200, answer.body
        return str(json.loads(answer.body)["status"])

    def page(self) -> Page:
        return Page(self.server.get("/v1/metrics").body.decode(), self.name)


def starter(directory: Path, *options: str) -> Iterator[RunningServer]:
    """A server for all tests of a module, which keep apart by their deployments."""
    server = RunningServer(directory, *options)
    yield server
    server.stop()


def pending(server: RunningServer) -> tuple[float | None, float | None]:
    return server.value("metrics_server_pending_predictions"), server.value("metrics_server_pending_truths")


def cells_of(server: RunningServer) -> dict[tuple[str, str], float]:
    """The pairs that stand on a server, by truth and prediction: those applied, less those taken back."""
    net: dict[tuple[str, str], float] = {}
    for (name, labels), value in server.samples().items():
        sign = {"model_confusion_total": 1, "model_confusion_retracted_total": -1}.get(name, 0)
        cell = (dict(labels).get("truth", ""), dict(labels).get("prediction", ""))
        net[cell] = net.get(cell, 0) + sign * value
    return {cell: value for cell, value in net.items() if value}
