"""The core of a server in one thread, without sockets: what an event costs, step by step, in CPU time.

CPU time of one thread hardly depends on what else the machine does, so single figures can be compared, which those of a
whole server cannot. What is missing here: the kernel's sockets, waiting for the disk, and threads in each other's way.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from benchmarks.errors import BenchmarkError
from metrics_server.ingest.cloudevent import Event, decode
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.window import seconds_of
from metrics_server.pairing.batch import Batch, Retention
from metrics_server.pairing.observation import Observation
from metrics_server.series.families import model_at
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.settings import Settings
from metrics_server.store.interface import Record, Store

FEEDBACK = "io.seldon.serving.feedback"
RESPONSE = "io.seldon.serving.inference.response"
NOWHERE = Labels("", "", "", "")

READ, NORMALIZE, LOAD, PAIR, AGGREGATE, COMMIT, TOTALS = STEPS = (
    "read the CloudEvent",
    "read the payload, make the observation",
    "load the records",
    "merge and match",
    "aggregate, encode the records",
    "commit to SQLite",
    "add to the totals",
)


@dataclass(frozen=True)
class Traffic:
    """The shape of events: feedback with response and truth, or truths of predictions that were logged before.

    Attributes:
        series: that the events rotate through.
        classes: of integer labels; 0 for rows of scores.
        columns: of a row of scores.
        rows: of an event.
        together: events of a batch.
        is_late: whether the truths come later than their predictions, in events of their own.
    """

    series: int = 1
    classes: int = 0
    columns: int = 3
    rows: int = 1
    together: int = 32
    is_late: bool = False


class Core:
    """Reads, pairs and stores events in this thread, and adds up what each step takes, in seconds."""

    def __init__(self, store: Store, windows: Sequence[str] = ()) -> None:
        """The store is its own from here on."""
        settings = Settings()
        build = partial(model_at, max_exported_classes=settings.max_exported_classes, allow_pickle=False)
        self._loads = _TimedLoads(store)
        self._store = cast("Store", self._loads)
        self._registry = SeriesRegistry(settings.scoring_of, build, 100_000, settings.max_slices)
        self._totals = Totals({window: seconds_of(window) for window in windows or settings.windows})
        self._retention = Retention(*map(seconds_of, (settings.history, settings.retention, settings.dedupe_retention)))
        self._totals.rebuild(self._store, time.time())
        self._sent = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.events = 0

    def close(self) -> None:
        """Closes the store."""
        self._store.close()

    def tidy(self) -> None:
        """Does the upkeep of the store, which a server does beside its events."""
        while self._store.tidy():
            pass

    def reset(self) -> None:
        """Begins to add up anew."""
        self.seconds.clear()
        self.events = 0

    def send(self, traffic: Traffic) -> None:
        """Takes one batch: with late truths the predictions, and after them their truths, as two."""
        first, self._sent = self._sent, self._sent + traffic.together
        kinds = (RESPONSE, FEEDBACK) if traffic.is_late else (FEEDBACK,)
        for kind in kinds:
            self._take([post_of(kind, number, traffic) for number in range(first, self._sent)])

    def predict(self, traffic: Traffic) -> None:
        """Takes one batch of predictions whose truths do not come."""
        first, self._sent = self._sent, self._sent + traffic.together
        self._take([post_of(RESPONSE, number, traffic) for number in range(first, self._sent)])

    def _take(self, posts: Sequence[tuple[Mapping[str, str], bytes]]) -> None:
        now = self._store.now()
        with self._timed(READ):
            events = [decode("application/json", headers, body)[0] for headers, body in posts]
        with self._timed(NORMALIZE):
            observations = [observation_of(event, NOWHERE, now) for event in events if isinstance(event, Event)]
        self._pair(observations, now)
        self.events += len(posts)

    def _pair(self, observations: Sequence[Observation], now: float) -> None:
        batch = Batch(self._store, self._registry, self._retention, now)
        with self._timed(PAIR):
            batch.apply(observations)
        with self._timed(AGGREGATE):
            change = batch.change()
        loading, self._loads.seconds = self._loads.seconds, 0.0
        self.seconds[PAIR] -= loading
        self.seconds[LOAD] += loading
        with self._timed(COMMIT):
            is_stored = self._store.commit(change)
        if not is_stored:
            raise BenchmarkError("the only writer was refused")
        with self._timed(TOTALS):
            self._totals.add(change.sums)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.thread_time()
        yield
        self.seconds[step] += time.thread_time() - started


class _TimedLoads:
    """A store that measures what loading takes, which is a part of pairing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.seconds = 0.0

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        started = time.thread_time()
        found = self._store.load(keys)
        self.seconds += time.thread_time() - started
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def post_of(kind: str, number: int, traffic: Traffic) -> tuple[Mapping[str, str], bytes]:
    """Makes the headers and the body of an event, as Seldon's executor sends them."""
    headers = {
        "specversion": "1.0",
        "id": f"{kind[-8:]}-{number:027x}",
        "type": kind,
        "source": "http://:8000/",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "requestid": f"{number:036x}",
        "modelid": "classifier",
        "inferenceservicename": f"wine-{number % traffic.series}",
        "namespace": "shop",
        "endpoint": "main",
        "protocol": "seldon",
        "traceparent": "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00",
    }
    return headers, json.dumps(_body(kind, number, traffic)).encode()


def _body(kind: str, number: int, traffic: Traffic) -> dict[str, Any]:
    truths, predictions = zip(*(_row(number + row, traffic) for row in range(traffic.rows)), strict=True)
    if kind == RESPONSE:
        return {"data": {"ndarray": predictions}}
    truth = {"data": {"ndarray": truths}}
    return {"truth": truth} if traffic.is_late else {"response": {"data": {"ndarray": predictions}}, "truth": truth}


def _row(number: int, traffic: Traffic) -> tuple[Any, Any]:
    """Returns a truth and its prediction, of which one in ten is wrong."""
    is_wrong = number % 10 == 0
    if traffic.classes:
        return number % traffic.classes, (number + is_wrong) % traffic.classes
    right = number % traffic.columns
    chosen = (right + is_wrong) % traffic.columns
    rest = 0.3 / (traffic.columns - 1)
    scores = [0.7 if column == chosen else rest for column in range(traffic.columns)]
    return [int(column == right) for column in range(traffic.columns)], scores
