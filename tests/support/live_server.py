"""A real server process for the tests: on a free loopback port, spoken to over plain HTTP, ended whatever happens."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.support.exposed import samples_of
from tests.support.running import FEEDBACK, RESPONSE, ServerProcess, ce, launch


class Request(NamedTuple):
    """What is sent in one POST."""

    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def message(label: object) -> dict[str, object]:
    """A SeldonMessage of one row."""
    return {"data": {"ndarray": [label]}}


def ce_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def event(
    event_id: str, payload: object, *, kind: str = FEEDBACK, request_id: str = "", at: float | None = None
) -> Request:
    """A CloudEvent in binary mode of the deployment `shop/fraud`."""
    headers = ce(
        kind, event_id, request_id, source="test", inferenceservicename="fraud", endpoint="default", modelid="tree"
    )
    if at is not None:
        headers["Ce-Time"] = ce_time(at)
    return Request(headers, json.dumps(payload).encode())


def feedback(
    event_id: str, truth: object, prediction: object, *, request_id: str = "", at: float | None = None
) -> Request:
    """A feedback that carries the response it is about: a pair at once."""
    return event(event_id, {"response": message(prediction), "truth": message(truth)}, request_id=request_id, at=at)


def truth_only(event_id: str, truth: object, *, request_id: str, at: float | None = None) -> Request:
    return event(event_id, {"truth": message(truth)}, request_id=request_id, at=at)


def logged(event_id: str, prediction: object, *, request_id: str, at: float | None = None) -> Request:
    """A row of the request log."""
    return event(event_id, message(prediction), kind=RESPONSE, request_id=request_id, at=at)


class Page:
    """The samples of /v1/metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = samples_of(text)

    def value(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that have these labels."""
        return sum(self.by(name, **labels).values())

    def by(self, name: str, *keys: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Values of this name by the labels `keys`, of the samples that have the given labels; added up where they
        coincide."""
        found: dict[tuple[str, ...], float] = {}
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                key = tuple(sample.labels[name] for name in keys)
                found[key] = found.get(key, 0.0) + sample.value
        return found

    def model_lines(self) -> list[str]:
        """What is said about models, without what tells the time."""
        lines = self.text.splitlines()
        return sorted(
            line for line in lines if line.startswith(("model_", "seldon_metric_")) and "timestamp" not in line
        )


def send(port: int, request: Request | None = None, path: str = "/", *, timeout: float = 15.0) -> Reply:
    """One request on a connection of its own: a POST, or without a request a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if request is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, request.body, dict(request.headers))
        reply = connection.getresponse()
        return Reply(reply.status, dict(reply.getheaders()), reply.read())
    finally:
        connection.close()


class LiveServer:
    """One `python -m metrics_server`, which can be killed and started again on the same state."""

    def __init__(self, directory: Path, *options: str, store: str = "", wrapper: Sequence[str] = ()) -> None:
        self.database = directory / "state.db"
        self.log = directory / "server.log"
        self._options = ["--store", store or f"sqlite:///{self.database}", *options]
        self._wrapper = list(wrapper)
        self.port = 0
        self.process: ServerProcess | None = None

    def start(self) -> None:
        self.process, self.port = launch(self.log, *self._options, wrapper=self._wrapper)

    @property
    def pid(self) -> int:
        """Of the server itself, also when it runs under a wrapper."""
        assert self.process is not None
        if not self._wrapper:
            return self.process.pid
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.signal(signal.SIGKILL)
            except (IndexError, ProcessLookupError):
                self.process.kill()
            self.process.wait(30)

    def get(self, path: str) -> Reply:
        return send(self.port, None, path, timeout=30)

    def post(self, request: Request, timeout: float = 15.0) -> Reply:
        return send(self.port, request, timeout=timeout)

    def page(self) -> Page:
        reply = self.get("/v1/metrics")
        assert reply.status == 200
        return Page(reply.body.decode())


@contextmanager
def live_server(directory: Path, *options: str, store: str = "", wrapper: Sequence[str] = ()) -> Iterator[LiveServer]:
    """A started server, killed at the end."""
    server = LiveServer(directory, *options, store=store, wrapper=wrapper)
    try:
        server.start()
        yield server
    finally:
        server.kill()
