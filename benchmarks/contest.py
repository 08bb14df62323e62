"""The contestants: servers that take the same load in turn, so that a machine whose speed drifts favours none."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import page, process, wrk
from benchmarks.database import DATABASES, database
from benchmarks.errors import BenchmarkError
from benchmarks.page import Counted
from benchmarks.pending import PENDING, Pending
from benchmarks.process import Process
from benchmarks.progress import progress
from benchmarks.wrk import Load, Shape

WARM_UP_SECONDS = 1
CACHE_SECONDS = 4  # to warm up with a large file: until SQLite's cache, 32 MiB, is full
REPLY_TYPE = "io.seldon.serving.feedback.metrics"
SINGLE = Shape()
BATCHED = Shape(batch=1000, connections=8)
LATE, LATE_BATCHED = replace(SINGLE, lag=300), replace(BATCHED, lag=8)
WORKERS = ("--workers", "2")
DROP_IN = ("--event_type", REPLY_TYPE, "--event_source", "io.seldon.serving.feedback")


@dataclass(frozen=True)
class Contestant:
    """A server and the load that it is sent. An empty store stands for the do-nothing Tornado handler; others are of
    `DATABASES`.
    """

    name: str
    what: str
    store: str = "sqlite"
    shape: Shape = SINGLE
    options: tuple[str, ...] = ()
    pending: int = 0  # predictions in the store at its start

    @contextmanager
    def serve(self, directory: Path, pending: Pending) -> Iterator[Process]:
        """Starts the server, with a store that is empty or holds the pending predictions."""
        if not self.store:
            with process.baseline(directory) as server:
                yield server
            return
        if self.store in DATABASES:
            with process.metrics_server(directory, database(self.store).fresh(), self.options) as server:
                yield server
            return
        path = pending.copy() if self.pending else directory / f"{uuid.uuid4().hex}.db"
        url = "memory://" if self.store == "memory" else f"sqlite:///{path}"
        with process.metrics_server(directory, url, self.options) as server:
            yield server
        path.unlink(missing_ok=True)  # with pending predictions it is 200 MB


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
        Contestant("batch", "1,000 events a POST, 8 connections", shape=BATCHED),
        Contestant("tornado-batch", "do-nothing handler, the same POSTs: what wrk can send", store="", shape=BATCHED),
        Contestant("at-once", "single events, 1 M predictions pending", pending=PENDING),
        Contestant("late", "predictions, 300 POSTs later their truths, 1 M pending", shape=LATE, pending=PENDING),
        Contestant("at-once-batch", "1,000 events a POST, 1 M predictions pending", shape=BATCHED, pending=PENDING),
        Contestant(
            "late-batch",
            "1,000 predictions a POST, 8 POSTs later their truths, 1 M pending",
            shape=LATE_BATCHED,
            pending=PENDING,
        ),
        Contestant("postgres", "single events, durable in PostgreSQL", store="postgres"),
        Contestant("postgres-batch", "1,000 events a POST, in PostgreSQL", store="postgres", shape=BATCHED),
        Contestant("workers-batch", "the same, two workers", store="postgres", shape=BATCHED, options=WORKERS),
        Contestant("sqlite-late-batch", "1,000 predictions a POST, 8 POSTs later their truths", shape=LATE_BATCHED),
        Contestant(
            "workers-late-batch", "the same in PostgreSQL, two workers", "postgres", LATE_BATCHED, options=WORKERS
        ),
        Contestant("slow-flush", "single events, a flush takes 3 ms", "slow-postgres"),
        Contestant("workers-slow-flush", "the same, four workers", "slow-postgres", options=("--workers", "4")),
    )
}


@dataclass(frozen=True)
class Run:
    """One measurement: events and pairs a second, latencies of a POST in milliseconds, resident memory in MiB."""

    rate: float
    pairs: float
    p50: float
    p99: float
    resident_before: float
    resident_warm: float
    resident_after: float


class Results:
    """Every run of every contestant, by round."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Run]] = {}

    def __contains__(self, name: object) -> bool:
        """Returns whether a contestant was measured."""
        return name in self.runs

    def median(self, name: str, field: str) -> float:
        """Returns the median of a field over the rounds."""
        return float(median(getattr(run, field) for run in self.runs[name]))

    def ratios(self, name: str, other: str, field: str = "rate") -> list[float]:
        """Divides a field of one contestant by that of another, round by round."""
        return [
            getattr(run, field) / getattr(against, field)
            for run, against in zip(self.runs[name], self.runs[other], strict=True)
        ]


def compete(names: Sequence[str], rounds: int, seconds: int, directory: Path) -> Results:
    """Measures everyone once a round, every other round in the opposite order."""
    results, pending = Results(), Pending(directory)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            progress(f"round {number + 1} of {rounds}: {name}")
            contestant = CONTESTANTS[name]
            with contestant.serve(directory, pending) as server:
                results.runs.setdefault(name, []).append(_measure(contestant, server, seconds))
    progress("")
    return results


def _measure(contestant: Contestant, server: Process, seconds: int) -> Run:
    shape, before = contestant.shape, server.resident_mib
    probed = _probe(server) if contestant.options == DROP_IN else 0
    warm = wrk.run(server.port, shape, CACHE_SECONDS if contestant.pending else WARM_UP_SECONDS)
    counted = page.settled(server) if contestant.store else None
    resident_warm = server.resident_mib
    load = wrk.run(server.port, shape, seconds)
    if not load.responses:
        raise BenchmarkError(f"{contestant.name}: nothing was answered in {seconds} s")
    after, rate = server.resident_mib, load.rate * shape.batch
    pairs = rate * _share_of_pairs(server, contestant, counted, probed, warm, load) if counted else 0.0
    return Run(rate, pairs, load.p50, load.p99, before, resident_warm, after)


def _share_of_pairs(server: Process, contestant: Contestant, before: Counted, probed: int, *loads: Load) -> float:
    """Checks the counts of the server; returns the number of pairs that each event of the last load brought."""
    shape, after = contestant.shape, page.settled(server)
    answered = probed + sum(load.responses for load in loads) * shape.batch
    try:
        page.check(after, contestant.pending, answered, in_flight=len(loads) * shape.connections * shape.batch)
    except BenchmarkError as error:
        raise BenchmarkError(f"{contestant.name}: {error}") from error
    return (after.matched - before.matched) / (after.accepted - before.accepted)


def _probe(server: Process) -> int:
    """Sends one event and checks its reply event, which wrk does not; returns the number of events sent."""
    names = {"Ce-Specversion": "1.0", "Ce-Type": "io.seldon.serving.feedback", "Ce-Source": "http://:8000/"}
    ids = {"Ce-Id": str(uuid.uuid4()), "Ce-Requestid": str(uuid.uuid4()), "Ce-Inferenceservicename": "wine"}
    body = '{"response":{"data":{"ndarray":[[0.1,0.2,0.7]]}},"truth":{"data":{"ndarray":[[0,0,1]]}}}'
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", "/", body, {"Content-Type": "application/json", **names, **ids})
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    kind = response.getheader("Ce-Type")
    if response.status != 200 or kind != REPLY_TYPE:
        raise BenchmarkError(f"drop-in: want a reply event of type {REPLY_TYPE}, got {response.status} with {kind}")
    return 1
