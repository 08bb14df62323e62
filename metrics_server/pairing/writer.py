"""The one writer: a bounded queue, one thread, and everything queued applied as one batch with one commit.

While one batch is being made durable the next one gathers, so the cost of a commit is shared by as many events as
arrive in its time, and the event loop never waits for a disk. The thread owns the store: nothing else calls it while
the server runs.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from metrics_server.errors import StoreUnavailable, Unavailable
from metrics_server.pairing.batch import Batch, BatchResult, Retention
from metrics_server.pairing.exemplar import Exemplars, TracedBatch
from metrics_server.pairing.latency import RequestLatencies
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.objectives import Objectives
from metrics_server.pairing.observation import Entry
from metrics_server.pairing.usage import UsageLimits
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, Store
from metrics_server.telemetry import OutageLog, Telemetry

logger = logging.getLogger(__name__)

BATCH_ROWS = 4096  # rows applied together at most: bounds how long an event waits for its batch
QUEUE_ROWS = 200_000  # rows waiting at most: about 50 MB
IDLE_SECONDS = 1.0  # how often an idle writer looks after what is due
LOOK_SECONDS = 0.2  # the same under load
BUSY_SECONDS = 0.01  # the same while maintenance has more to do
ATTEMPTS = 100  # how often a batch is computed again because another writer came first
WHOLE_ATTEMPTS = 5  # after which it is halved
BACK_OFF_SECONDS = 0.002

SubmissionResult = BatchResult | Unavailable
OnResult = Callable[[Sequence[SubmissionResult]], None]
RetireResult = bool | Unavailable  # whether there was such a series
OnRetired = Callable[[RetireResult], None]
OnCaughtUp = Callable[[None], None]
DeliverResults = Callable[[list[tuple[Callable[[Any], None], Any]]], None]


class Submission:
    """Entries that came together on their way into the store, and who wants to know what became of each.

    Attributes:
        entries: observations and erasures, in the order in which they are applied.
        on_result: is called once with what became of each of them.
        rows: of all of them together.
    """

    __slots__ = ("entries", "on_result", "rows")

    def __init__(self, entries: Sequence[Entry], on_result: OnResult) -> None:
        self.entries = entries
        self.on_result = on_result
        self.rows = sum([len(entry.rows) for entry in entries])


class Writer:
    """Applies observations from the event loop.

    Results go to `deliver_results`, which is called in the writer's thread, after the commit; and what a batch gives as
    an example of its numbers to `exemplars`, if they are wanted.
    """

    def __init__(
        self,
        store: Store,
        registry: SeriesRegistry,
        totals: Totals,
        telemetry: Telemetry,
        retention: Retention,
        *,
        max_queue: int,
        series_retention: int,
        limits: UsageLimits,
        deliver_results: DeliverResults,
        objectives: Objectives | None = None,
        clock: Callable[[], float] | None = None,
        exemplars: Exemplars | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._telemetry = telemetry
        self._retention = retention
        self._max_queue = max_queue
        self._deliver_results = deliver_results
        self._clock = clock or store.now
        self._latencies = RequestLatencies()
        self._exemplars = exemplars
        self._make_batch = Batch if exemplars is None else TracedBatch
        self._maintenance = Maintenance(
            store,
            registry,
            totals,
            telemetry,
            limits,
            history=retention.history,
            retention=retention.retention,
            series_retention=series_retention,
            objectives=objectives,
        )
        self._view = self._maintenance.view
        self._queue: deque[Submission] = deque()
        self._retiring: deque[tuple[Labels, OnRetired]] = deque()
        self._catching_up: deque[OnCaughtUp] = deque()
        self._wake = threading.Event()
        # Since the start: what was queued is counted up in the event loop, what was taken in the writer's thread.
        self._rows_queued = self._rows_taken = self._events_queued = self._events_taken = 0
        self._stopping = False
        self._is_broken = False  # the store failed: nothing in memory is sure to be what is stored
        self._is_registry_ahead = False  # of the store: a batch was given up after it had made series or claims
        self._outages = OutageLog(logger, logging.ERROR)
        self._looked_at = 0.0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)  # a disk that hangs keeps nothing

    def start(self) -> None:
        """Reads the state and starts the thread.

        Raises:
            StoreUnavailable: the state cannot be read.
        """
        self._restore()
        self._thread.start()

    def submit(self, submission: Submission) -> None:
        """Queues a submission; called in the event loop. The last one let in may go beyond the limits.

        Raises:
            Unavailable: the queue is full.
        """
        if (waiting := self._events_queued - self._events_taken) >= self._max_queue:
            raise Unavailable(f"{waiting} events wait already, the limit of --max_queue_events")
        if self._rows_queued - self._rows_taken >= QUEUE_ROWS:
            raise Unavailable(f"events with {QUEUE_ROWS} rows wait already")
        self._events_queued += len(submission.entries)
        self._rows_queued += submission.rows
        self._queue.append(submission)
        if not self._wake.is_set():
            self._wake.set()

    def retire(self, labels: Labels, on_retired: OnRetired) -> None:
        """Has every series of these labels deleted between two batches, its slices too.

        `on_retired` is told whether there was one, or the failure.
        """
        self._retiring.append((labels, on_retired))
        self._wake.set()

    def catch_up(self, on_caught_up: OnCaughtUp) -> None:
        """Has what other writers have committed taken next, and then `on_caught_up` called with None; also when the
        store is away.
        """
        if self._store.sharing is not None:
            self._catching_up.append(on_caught_up)
            self._wake.set()
        else:
            on_caught_up(None)

    @property
    def is_up(self) -> bool:
        """Tells whether the last use of the store succeeded."""
        return not self._is_broken

    def stop(self, timeout: float | None = None) -> bool:
        """Applies what is queued and ends the thread; tells whether that was done within the timeout."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        idle_seconds = IDLE_SECONDS if self._store.sharing is None else LOOK_SECONDS
        while True:
            self._wake.wait(BUSY_SECONDS if self._maintenance.is_busy else idle_seconds)
            self._wake.clear()
            while submissions := self._next_submissions():
                self._apply(submissions)
                self._serve_requests()
                self._maintain()
            self._serve_requests()
            if self._stopping and not self._queue and not self._retiring:
                return
            self._maintain()

    # Batches

    def _next_submissions(self) -> list[Submission]:
        """Takes what is queued, up to a batch."""
        taken: list[Submission] = []
        size = 0
        while self._queue and size < BATCH_ROWS:
            taken.append(self._queue.popleft())
            events, rows = len(taken[-1].entries), taken[-1].rows
            self._events_taken += events
            self._rows_taken += rows
            size += max(events, rows)
        return taken

    def _apply(self, submissions: list[Submission]) -> None:
        self._telemetry.queue_events.set(self._events_queued - self._events_taken)
        entries = [entry for submission in submissions for entry in submission.entries]
        started = time.perf_counter()
        results = iter([result for part in _parts(entries) for result in self._applied(part)])
        self._telemetry.commit_seconds.observe(time.perf_counter() - started)
        self._telemetry.commit_events.observe(len(entries))
        self._deliver_results([(one.on_result, list(islice(results, len(one.entries)))) for one in submissions])

    def _applied(self, entries: list[Entry]) -> Sequence[SubmissionResult]:
        """Applies a batch. One that cannot be applied, by a fault of ours, is found by halving, and fails alone."""
        try:
            return self._commit(entries)
        except StoreUnavailable as error:
            self._note_failure(error)
            return [Unavailable(str(error))] * len(entries)
        except Exception as error:  # noqa: BLE001 - whatever it was, the others must not suffer
            if len(entries) > 1:
                return [result for half in _halves(entries) for result in self._applied(half)]
            self._note_failure(error)
            return [Unavailable("internal error")]

    def _commit(self, entries: list[Entry]) -> Sequence[SubmissionResult]:
        self._recover()
        for attempt in range(ATTEMPTS):
            batch, results, change = self._compute(entries)
            if self._commit_change(change):
                if isinstance(batch, TracedBatch) and self._exemplars is not None:
                    self._exemplars.take(batch)
                self._view.add(change)
                self._maintenance.note_pending(batch.pending_by_second)
                self._telemetry.count_dropped_metrics(batch.dropped_custom_metrics)
                return results
            self._take_refusal(change, attempt)
            if attempt >= WHOLE_ATTEMPTS and len(entries) > 1:
                return [result for half in _halves(entries) for result in self._applied(half)]
        raise StoreUnavailable(f"other writers came first {ATTEMPTS} times")

    def _take_refusal(self, change: Change, attempt: int) -> None:
        """Takes what another writer has committed first; the more often, the longer it leaves the others alone."""
        if self._store.sharing is None:
            self._restore()
            return
        time.sleep(random.uniform(0.0, BACK_OFF_SECONDS * attempt))  # noqa: S311 - it only has to differ
        self._view.catch_up(self._clock())
        if change.series or change.claims:  # made for this change, and not stored
            self._view.restore_registry()

    def _compute(self, entries: list[Entry]) -> tuple[Batch, list[BatchResult], Change]:
        """Pairs a batch with what is stored. Nothing is stored yet: a failure leaves but series made in vain."""
        batch = self._make_batch(self._store, self._registry, self._retention, self._clock(), self._latencies)
        try:
            return batch, batch.apply(entries), batch.change()
        except BaseException:
            self._is_registry_ahead = True
            raise

    def _commit_change(self, change: Change) -> bool:
        try:
            return self._store.commit(change)
        except BaseException:
            self._is_broken = True  # it may or may not have been applied
            raise

    # Requests of others than senders

    def _serve_requests(self) -> None:
        self._retire_all()
        if self._catching_up:
            self._catch_up_for_all()

    def _catch_up_for_all(self) -> None:
        """Catches up once for all that have asked before."""
        asked = [self._catching_up.popleft() for _ in range(len(self._catching_up))]
        try:
            self._recover()
            self._view.catch_up(self._clock())
        except StoreUnavailable as error:
            self._note_failure(error)
        except Exception:  # who asks gets the last values; it must never end the writer
            logger.exception("Maintenance failed")
        self._deliver_results([(on_caught_up, None) for on_caught_up in asked])

    def _retire_all(self) -> None:
        while self._retiring:
            labels, on_retired = self._retiring.popleft()
            try:
                result: RetireResult = self._retire(labels)
            except Exception as error:  # noqa: BLE001 - whatever it was, it must not end the writer
                self._is_broken = True
                self._note_failure(error)
                result = Unavailable(str(error) if isinstance(error, StoreUnavailable) else "internal error")
            self._deliver_results([(on_retired, result)])

    def _retire(self, labels: Labels) -> bool:
        """Deletes the series of these labels, and those of older configurations, which would be back with these."""
        self._recover()
        self._view.catch_up(self._clock())  # there may be series that only another server has seen yet
        stored = (self._registry.get(row.id) for row in self._store.series())
        leaving = [series for series in stored if series and series.labels == labels]
        # The parent last: as long as it is there, a request that failed half-way can be repeated.
        for series in sorted(leaving, key=lambda series: not series.identity.slice):
            self._store.forget_series(series.id)
            self._view.drop(series.id)
        return bool(leaving)

    # What is kept in memory

    def _recover(self) -> None:
        """Reads again what a failure has left in doubt."""
        if self._is_broken:
            self._restore()
        elif self._is_registry_ahead:
            self._view.restore_registry()
            self._is_registry_ahead = False

    def _restore(self) -> None:
        """Reads everything that is kept in memory anew."""
        if self._is_broken:
            self._store.ready()  # to be read is not enough: a file locked by another process can be
        self._view.restore(self._clock())
        self._outages.note_success("The store is back")
        self._is_broken = self._is_registry_ahead = False
        self._telemetry.store_up.set(1)

    def _note_failure(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            self._outages.note_failure("The store is unavailable, events are answered 503: %s", error)
            self._is_broken = True
        else:  # a bug of ours, or a metric model that cannot be built any more
            logger.error("A batch of events could not be applied, its senders are told to come again", exc_info=error)
        if self._is_broken:
            self._telemetry.store_up.set(0)

    def _maintain(self) -> None:
        now = self._clock()
        if 0 <= now - self._looked_at < LOOK_SECONDS and not self._maintenance.is_busy:
            return
        self._looked_at = now
        try:
            self._recover()
            self._view.catch_up(now)
            self._maintenance.run_due(now)
            self._telemetry.followed_requests = self._latencies.completeness.judged(now)
            self._telemetry.series.set(len(self._registry))
            self._telemetry.state_bytes.set(self._store.state_bytes())
        except StoreUnavailable as error:
            self._note_failure(error)
        except Exception:  # it is tried again at the next step; it must never end the writer
            logger.exception("Maintenance failed")


def _halves(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    middle = len(entries) // 2
    return entries[:middle], entries[middle:]


def _parts(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Cuts entries into portions of about BATCH_ROWS rows."""
    part: list[Entry] = []
    rows = 0
    for entry in entries:
        part.append(entry)
        rows += max(1, len(entry.rows))
        if rows >= BATCH_ROWS:
            yield part
            part, rows = [], 0
    if part:
        yield part
