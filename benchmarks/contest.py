"""The contestants: servers that take the same load in turn, so that a machine whose speed drifts favours none."""

from __future__ import annotations

import http.client
import sys
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import page, process, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.process import Process
from benchmarks.wrk import Load, Shape

WARM_UP_SECONDS = 1
REPLY_TYPE = "io.seldon.serving.feedback.metrics"
SINGLE = Shape()
DROP_IN = ("--event_type", REPLY_TYPE, "--event_source", "io.seldon.serving.feedback")


@dataclass(frozen=True)
class Contestant:
    """A server, and what it is sent. An empty store stands for the do-nothing Tornado handler."""

    name: str
    what: str
    store: str = "sqlite"
    shape: Shape = SINGLE
    options: tuple[str, ...] = ()

    def serve(self, directory: Path) -> AbstractContextManager[Process]:
        """Starts it, with an empty store."""
        if not self.store:
            return process.baseline(directory)
        url = "memory://" if self.store == "memory" else f"sqlite:///{directory}/{uuid.uuid4().hex}.db"
        return process.metrics_server(directory, url, self.options)


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("tornado", "do-nothing tornado.web.RequestHandler", store=""),
        Contestant("sqlite", "single events, durable"),
        Contestant("memory", "single events, memory://", store="memory"),
        Contestant("drop-in", "single events, durable, reply events", options=DROP_IN),
        Contestant("series-1000", "single events over 1,000 series", shape=Shape(series=1000)),
        Contestant("classes-3", "single events of 3 classes", shape=Shape(classes=3)),
        Contestant("classes-1000", "single events of 1,000 classes", shape=Shape(classes=1000)),
        Contestant("batch", "1,000 events a POST, 8 connections", shape=Shape(batch=1000, connections=8)),
    )
}


@dataclass(frozen=True)
class Run:
    """One measurement: events a second, latencies of a POST in milliseconds, resident memory in MiB."""

    rate: float
    p50: float
    p99: float
    resident_before: float
    resident_after: float


class Results:
    """Every run of every contestant, by round."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Run]] = {}

    def __contains__(self, name: object) -> bool:
        """Whether this contestant was measured."""
        return name in self.runs

    def median(self, name: str, field: str) -> float:
        """The median over the rounds."""
        return float(median(getattr(run, field) for run in self.runs[name]))

    def ratios(self, name: str, other: str) -> list[float]:
        """Rate by rate, round by round."""
        return [run.rate / against.rate for run, against in zip(self.runs[name], self.runs[other], strict=True)]


def compete(names: Sequence[str], rounds: int, seconds: int, directory: Path) -> Results:
    """Measures everyone once a round, every other round in the opposite order."""
    results = Results()
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            _progress(f"round {number + 1} of {rounds}: {name}")
            results.runs.setdefault(name, []).append(_measure(CONTESTANTS[name], seconds, directory))
    _progress("")
    return results


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, end="\033[K\r", file=sys.stderr, flush=True)


def _measure(contestant: Contestant, seconds: int, directory: Path) -> Run:
    shape = contestant.shape
    with contestant.serve(directory) as server:
        before = server.resident_mib
        probed = _probe(server) if contestant.options == DROP_IN else 0
        warm = wrk.run(server.port, shape, WARM_UP_SECONDS)
        load = wrk.run(server.port, shape, seconds)
        if not load.answers:
            raise BenchmarkError(f"{contestant.name}: nothing was answered in {seconds} s")
        after = server.resident_mib
        if contestant.store:
            _check(server, contestant, probed, warm, load)
    return Run(load.rate * shape.batch, load.p50, load.p99, before, after)


def _check(server: Process, contestant: Contestant, probed: int, *loads: Load) -> None:
    shape = contestant.shape
    answered = probed + sum(load.answers for load in loads) * shape.batch
    try:
        page.check(server, answered, in_flight=len(loads) * shape.connections * shape.batch)
    except BenchmarkError as error:
        raise BenchmarkError(f"{contestant.name}: {error}") from error


def _probe(server: Process) -> int:
    """Sends one event and looks for the reply event in its answer; wrk does not look. Says how many events that was."""
    names = {"Ce-Specversion": "1.0", "Ce-Type": "io.seldon.serving.feedback", "Ce-Source": "http://:8000/"}
    ids = {"Ce-Id": str(uuid.uuid4()), "Ce-Requestid": str(uuid.uuid4()), "Ce-Inferenceservicename": "wine"}
    body = '{"response":{"data":{"ndarray":[[0.1,0.2,0.7]]}},"truth":{"data":{"ndarray":[[0,0,1]]}}}'
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", "/", body, {"Content-Type": "application/json", **names, **ids})
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != 200 or answer.getheader("Ce-Type") != REPLY_TYPE:
        raise BenchmarkError(f"drop-in: want a reply event of type {REPLY_TYPE}, got {answer.status} with {answer.getheader('Ce-Type')}")
    return 1
