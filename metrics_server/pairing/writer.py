"""The one writer: a bounded queue, one thread, and everything queued applied as one group with one commit.

While one group is being made durable the next one gathers, so the cost of a commit is shared by as many events as
arrive in its
time, and the event loop never waits for a disk. The thread owns the store: nothing else calls it while the server runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from metrics_server.errors import StoreUnavailable, Unavailable
from metrics_server.pairing.batch import Batch, BatchResult, Retention
from metrics_server.pairing.latency import RequestLatencies
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.observation import Observation
from metrics_server.pairing.usage import UsageLimits
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store
from metrics_server.telemetry import OutageLog, Telemetry

logger = logging.getLogger(__name__)

BATCH_ROWS = 4096  # rows applied together at most: bounds how long an event waits for its group
QUEUE_ROWS = 200_000  # rows waiting at most: about 50 MB
IDLE_SECONDS = 1.0  # how often an idle writer looks after what is due
LOOK_SECONDS = 0.2  # the same under load
BUSY_SECONDS = 0.01  # the same while upkeep has more to do
ATTEMPTS = 100  # how often a group is computed again because another writer came first

SubmissionResult = BatchResult | Unavailable
OnResult = Callable[[Sequence[SubmissionResult]], None]
RetireResult = bool | Unavailable  # whether there was such a series
OnRetired = Callable[[RetireResult], None]
DeliverResults = Callable[[list[tuple[Callable[[Any], None], Any]]], None]


@dataclass(frozen=True)
class Submission:
    """Halves that came together on their way into the store, and who wants to know what became of each."""

    observations: Sequence[Observation]
    done: OnResult

    @cached_property
    def rows(self) -> int:
        """How many rows it brings; asked when it is queued and again when it is taken."""
        return sum(len(observation.rows) for observation in self.observations)


class Writer:
    """Takes halves from the event loop and answers through `deliver`, which is called in the writer's thread, after the
    commit.
    """

    def __init__(
        self,
        store: Store,
        registry: SeriesRegistry,
        totals: Totals,
        telemetry: Telemetry,
        keeping: Retention,
        *,
        max_queue: int,
        series_retention: int,
        limits: UsageLimits,
        deliver: DeliverResults,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._registry = registry
        self._totals = totals
        self._telemetry = telemetry
        self._keeping = keeping
        self._max_queue = max_queue
        self._deliver = deliver
        self._clock = clock
        self._latencies = RequestLatencies()
        self._upkeep = Maintenance(
            store,
            registry,
            totals,
            telemetry,
            limits,
            history=keeping.history,
            retention=keeping.retention,
            series_retention=series_retention,
        )
        self._queue: deque[Submission] = deque()
        self._retiring: deque[tuple[Labels, OnRetired]] = deque()
        self._wake = threading.Event()
        # Ever: what was queued is counted up in the event loop, what was taken in the writer's thread.
        self._rows_queued = self._rows_taken = 0
        self._events_queued = self._events_taken = 0
        self._stopping = False
        self._broken = False
        self._outages = OutageLog(logger, logging.ERROR)
        self._looked_at = 0.0
        self._thread = threading.Thread(
            target=self._run, name="writer", daemon=True
        )  # a disk that hangs must not keep the process

    def start(self) -> None:
        """Reads the state and starts the thread.

        Raises:
            StoreUnavailable: the state cannot be read.
        """
        self._restore()
        self._thread.start()

    def submit(self, submission: Submission) -> None:
        """Queues halves that came together; called in the event loop. The last ones let in may go beyond the limits.

        Raises:
            Unavailable: the queue is full.
        """
        if (waiting := self._events_queued - self._events_taken) >= self._max_queue:
            raise Unavailable(f"{waiting} events wait already, the limit of --max_queue_events")
        if self._rows_queued - self._rows_taken >= QUEUE_ROWS:
            raise Unavailable(f"events with {QUEUE_ROWS} rows wait already")
        self._events_queued += len(submission.observations)
        self._rows_queued += submission.rows
        self._queue.append(submission)
        if not self._wake.is_set():
            self._wake.set()

    def retire(self, labels: Labels, on_retired: OnRetired) -> None:
        """Has every series of these labels deleted between two groups, its slices too; `on_retired` is told whether
        there was one, or the failure.
        """
        self._retiring.append((labels, on_retired))
        self._wake.set()

    @property
    def is_up(self) -> bool:
        """Whether the last use of the store succeeded."""
        return not self._broken

    def stop(self, timeout: float | None = None) -> bool:
        """Applies what is queued and ends the thread; says whether that was done within the timeout."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wake.wait(BUSY_SECONDS if self._upkeep.is_busy else IDLE_SECONDS)
            self._wake.clear()
            while group := self._next_group():
                self._apply(group)
                self._retire_all()
                self._look_after()
            self._retire_all()
            if self._stopping and not self._queue and not self._retiring:
                return
            self._look_after()

    def _next_group(self) -> list[Submission]:
        group: list[Submission] = []
        size = 0
        while self._queue and size < BATCH_ROWS:
            group.append(self._queue.popleft())
            events, rows = len(group[-1].observations), group[-1].rows
            self._events_taken += events
            self._rows_taken += rows
            size += max(events, rows)
        return group

    def _apply(self, group: list[Submission]) -> None:
        self._telemetry.queue_events.set(self._events_queued - self._events_taken)
        observations = [observation for submission in group for observation in submission.observations]
        started = time.perf_counter()
        outcomes = [outcome for part in _parts(observations) for outcome in self._tried(part)]
        self._telemetry.commit_seconds.observe(time.perf_counter() - started)
        self._telemetry.commit_events.observe(len(observations))
        taken = iter(outcomes)
        self._deliver([(submission.done, list(islice(taken, len(submission.observations)))) for submission in group])

    def _tried(self, observations: list[Observation]) -> list[SubmissionResult]:
        """What became of these halves. One that cannot be applied, by a fault of ours, is found by halves, and fails
        alone.
        """
        try:
            return list(self._commit(observations))
        except StoreUnavailable as error:
            self._fail(error)
            return [Unavailable(str(error))] * len(observations)
        except Exception as error:  # noqa: BLE001 - whatever it was, what is in memory may be ahead of the store: it is read anew
            self._broken = True
            if len(observations) > 1:
                middle = len(observations) // 2
                return [*self._tried(observations[:middle]), *self._tried(observations[middle:])]
            self._fail(error)
            return [Unavailable("internal error")]

    def _commit(self, observations: list[Observation]) -> list[BatchResult]:
        if self._broken:
            self._restore()
        for _ in range(ATTEMPTS):
            group = Batch(self._store, self._registry, self._keeping, self._clock(), self._latencies)
            outcomes = group.take(observations)
            change = group.change()
            if self._store.commit(change):
                self._totals.add(change.sums)
                return outcomes
            self._restore()
        raise StoreUnavailable(f"other writers came first {ATTEMPTS} times")

    def _retire_all(self) -> None:
        while self._retiring:
            labels, on_retired = self._retiring.popleft()
            try:
                result: RetireResult = self._retire(labels)
            except Exception as error:  # noqa: BLE001 - whatever it was, it must not end the writer
                self._fail(error)
                result = Unavailable(str(error) if isinstance(error, StoreUnavailable) else "internal error")
            self._deliver([(on_retired, result)])

    def _retire(self, labels: Labels) -> bool:
        """Deletes the series of these labels, of older configurations too, or they would be back with their
        configuration.
        """
        if self._broken:
            self._restore()
        there = (self._registry.get(row.id) for row in self._store.series())
        # The whole last: as long as it is there, a request that failed half-way can be repeated.
        leaving = sorted(
            (series for series in there if series and series.labels == labels),
            key=lambda series: not series.identity.slice,
        )
        for series in leaving:
            self._store.forget_series(series.id)
            self._registry.drop(series.id)
            self._totals.drop([series.id])
        return bool(leaving)

    def _restore(self) -> None:
        """Reads everything that is kept in memory anew; needed whenever it may differ from what is stored."""
        if self._broken:
            self._store.ready()  # to be read is not enough: a file locked by another process can be
        self._registry.restore(self._store.series())
        self._totals.rebuild(self._store, self._clock())
        self._outages.note_success("The store is back")
        self._broken = False
        self._telemetry.store_up.set(1)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, StoreUnavailable):  # a bug of ours, or a metric model that cannot be built any more
            logger.error("A group of events could not be applied, its senders are told to come again", exc_info=error)
        else:
            self._outages.note_failure("The store is unavailable, events are answered 503: %s", error)
        self._broken = True
        self._telemetry.store_up.set(0)

    def _look_after(self) -> None:
        now = self._clock()
        if 0 <= now - self._looked_at < LOOK_SECONDS and not self._upkeep.is_busy:
            return
        self._looked_at = now
        try:
            if self._broken:
                self._restore()
            self._upkeep.step(now)
            self._telemetry.series.set(len(self._registry))
            self._telemetry.state_bytes.set(self._store.state_bytes())
        except StoreUnavailable as error:
            self._fail(error)
        except Exception:  # upkeep is tried again at the next step; it must never end the writer
            logger.exception("Upkeep failed")


def _parts(observations: list[Observation]) -> Iterator[list[Observation]]:
    """The halves in portions of about GROUP_ROWS rows."""
    part: list[Observation] = []
    rows = 0
    for observation in observations:
        part.append(observation)
        rows += max(1, len(observation.rows))
        if rows >= BATCH_ROWS:
            yield part
            part, rows = [], 0
    if part:
        yield part
