"""The writer without a server: what it does when a batch cannot be applied."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from metrics_server.errors import Unavailable
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.model import load
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import DAY
from metrics_server.pairing.batch import Retention
from metrics_server.pairing.observation import Observation, digest_of, row_key
from metrics_server.pairing.usage import RECORDS, UsageLimits
from metrics_server.pairing.writer import Submission, Writer
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, Write
from metrics_server.store.memory import MemoryStore
from metrics_server.telemetry import Telemetry

NOW = 1_790_000_000.0
SCORING = Scoring(storage_uri="cm_models.multiclass_numeric.MultiClassNumeric")
MAIN = Labels("shop", "wine", "main", "classifier")


class CountingStore(MemoryStore):
    """A store that counts how often the buckets of all series are added up, which takes long where there are many."""

    def __init__(self) -> None:
        super().__init__()
        self.totals_read = 0

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        self.totals_read += 1
        return super().totals(since, until)


class Bench:
    """A writer on a store, and what it answers."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.totals = Totals({"1h": 3600})
        self.results: queue.Queue[list[Any]] = queue.Queue()
        self.writer = Writer(
            self.store,
            SeriesRegistry(lambda labels: SCORING, lambda path, parameters: load(path, parameters), 10),
            self.totals,
            Telemetry(),
            Retention(history=400 * DAY, retention=35 * DAY, dedupe=DAY),
            max_queue=10_000,
            series_retention=400 * DAY,
            limits=UsageLimits(),
            deliver_results=lambda results: [on_result(result) for on_result, result in results] and None,
            clock=lambda: NOW,
        )

    def send(self, observations: list[Observation]) -> list[Any]:
        self.writer.submit(Submission(observations, self.results.put))
        return self.results.get(timeout=60)

    def pairs(self) -> float:
        (series,) = self.store.series()
        return self.totals.series_totals(series.id).windows["1h"].get("pairs", 0.0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.writer.stop(10)


def pair(request: str) -> Observation:
    """A prediction and its truth in one feedback."""
    data = b'{"response":{"data":{"ndarray":[1]}},"truth":{"data":{"ndarray":[1]}}}'
    names = ("namespace", "inferenceservicename", "endpoint", "modelid")
    attributes = {"requestid": request, **dict(zip(names, MAIN, strict=True))}
    event = Event(EventKind.FEEDBACK, request, "/test", "t", NOW, attributes, "application/json", data)
    return observation_of(event, Labels("", "", "", ""), NOW)


def poison(store: MemoryStore, request: str) -> None:
    """Stores a record of this request that cannot be decoded."""
    store.commit(Change({row_key(digest_of(request), 0): Write(0, b"\xc1", NOW + DAY, RECORDS)}))


def test_an_event_that_cannot_be_applied_fails_alone(bench: Bench) -> None:
    """When a batch meets a fault of ours, the events that have nothing to do with it are applied all the same."""
    poison(bench.store, "r5")
    bench.writer.start()
    results = bench.send([pair(f"r{number}") for number in range(9)])
    assert isinstance(results[5], Unavailable)
    assert [result for result in results if result != "accepted"] == [results[5]]
    assert bench.pairs() == 8


def test_looking_for_it_reads_no_totals_again(bench: Bench) -> None:
    """A batch with such an event is halved ten times; the totals in memory stay right, and are not rebuilt."""
    poison(bench.store, "r700")
    bench.writer.start()
    read_at_start = bench.store.totals_read
    results = bench.send([pair(f"r{number}") for number in range(1000)])
    assert [number for number, result in enumerate(results) if result != "accepted"] == [700]
    assert bench.store.totals_read - read_at_start <= 1  # the window may have slid once
    assert bench.pairs() == 999


def test_such_an_event_does_not_take_the_server_down(bench: Bench) -> None:
    """The store is as good as before: the server stays ready, and what comes next is applied."""
    poison(bench.store, "r0")
    bench.writer.start()
    assert isinstance(bench.send([pair("r0")])[0], Unavailable)
    assert bench.writer.is_up
    assert bench.send([pair("r1")]) == ["accepted"]
    assert bench.pairs() == 1
