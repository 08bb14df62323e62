"""Maintenance: windows slide, buckets roll up, records expire, in small steps between two batches."""

from __future__ import annotations

import math
from collections.abc import Mapping

from metrics_server.metrics.components import PENDING_PREDICTIONS, PENDING_TRUTHS, SERVER_SERIES_ID
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.window import COARSEST, MINUTE, USAGE, floor, oldest_start, roll_ups
from metrics_server.pairing.expiry import expire
from metrics_server.pairing.objectives import Objectives
from metrics_server.pairing.usage import EVENT_KEYS, RECORDS, PendingSeconds, UsageLimits, overdue_truths
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.totals import Totals
from metrics_server.series.view import StoreView
from metrics_server.store.interface import Record, Store
from metrics_server.telemetry import Telemetry

SWEEP_SECONDS = 0.2  # between two looks at expired records, unless there are more
SWEEP_RECORDS = 5000  # records a look takes at most: about 0.1 s in a million
TIDY_SECONDS = 1.0  # between two parts of the store's own upkeep


class Maintenance:
    """Does what is due; `run_due` is called often and mostly finds nothing."""

    def __init__(
        self,
        store: Store,
        registry: SeriesRegistry,
        totals: Totals,
        telemetry: Telemetry,
        limits: UsageLimits,
        *,
        history: int,
        retention: int,
        series_retention: int,
        objectives: Objectives | None = None,
    ) -> None:
        self._store = store
        self._objectives = objectives
        self._registry = registry
        self._totals = totals
        self.view = StoreView(store, registry, totals, self.note_restored)
        self._telemetry = telemetry
        self._limits = limits
        self._history = history
        self._retention = retention
        self._series_retention = series_retention
        self._pending = PendingSeconds()
        self._minute = 0
        self._swept_at = self._tidied_at = 0.0
        self._has_more = False
        self._is_untidy = False  # the store
        self._is_look_due = False  # at the objectives
        self._evicted_up_to = 0  # when the newest record was received that had to go before its time
        self._rolling_at: float | None = None

    def run_due(self, now: float) -> None:
        """Slides windows, rolls up a bucket, deletes records and series, as far as that is due.

        Of several writers one does what changes the store.

        Raises:
            StoreUnavailable: what was not done is done at a later step.
        """
        has_upkeep = self._store.takes_upkeep()
        if (minute := floor(now, MINUTE)) != self._minute:
            self._begin_minute(now, has_upkeep=has_upkeep)
            self._minute = minute
        if self._rolling_at is not None and not self._roll_up_one(self._rolling_at):
            self._rolling_at = None
        if self._is_look_due and self._rolling_at is None:
            self._look(now, has_upkeep=has_upkeep)
        if self._has_more or _is_due(self._swept_at, SWEEP_SECONDS, now):
            self._sweep(now, has_upkeep=has_upkeep)
        if self._is_untidy or _is_due(self._tidied_at, TIDY_SECONDS, now):
            self._is_untidy = has_upkeep and self._store.tidy()
            self._tidied_at = now

    def _begin_minute(self, now: float, *, has_upkeep: bool) -> None:
        self.view.slide(now)  # before any roll-up: its edges must not lie within a coarser bucket
        if has_upkeep:
            self._delete_idle_series(now)
        self._rolling_at = now - self._store.upkeep_delay if has_upkeep else None
        self._is_look_due = True

    def _look(self, now: float, *, has_upkeep: bool) -> None:
        """Looks at the objectives. It reads the histories of their series, which is quicker when the roll-up has added
        up what commits have only appended.
        """
        if self._objectives is not None:
            self._objectives.look(now, has_upkeep=has_upkeep)
        self._is_look_due = False

    def _sweep(self, now: float, *, has_upkeep: bool) -> None:
        self._has_more = False
        if has_upkeep:
            self._delete_records(now)
        self._tell(now)
        self._swept_at = now

    def note_restored(self, now: float) -> None:
        """Notes that all in memory was read anew, so that only sums tell what was received before."""
        self._pending.start(now)

    def note_pending(self, by_second: Mapping[int, int]) -> None:
        """Notes which rows wait by a batch that was committed, and which do no more."""
        self._pending.add(by_second)

    @property
    def is_busy(self) -> bool:
        """Tells whether more is due at once."""
        return self._rolling_at is not None or self._has_more or self._is_untidy

    def _roll_up_one(self, now: float) -> bool:
        """Rolls up or deletes one bucket; tells whether there was one."""
        splits = self._registry.splits()
        folded = any(self._store.roll_up(*widths_and_mark, splits) for widths_and_mark in roll_ups(now))
        return folded or self._store.forget_before(COARSEST, oldest_start(now, self._history))

    def _delete_records(self, now: float) -> None:
        """Deletes expired records and event keys, and the oldest of those that are kept beyond the limits."""
        for expiry_queue in (EVENT_KEYS, RECORDS):
            self._delete(self._store.expired(now, SWEEP_RECORDS, expiry_queue), expiry_queue, LabelStatus.EXPIRED)
        for expiry_queue, surplus in self._limits.surplus(self._totals.cumulative(USAGE, SERVER_SERIES_ID)).items():
            self._evict(expiry_queue, surplus)

    def _evict(self, expiry_queue: int, surplus: int) -> None:
        """Deletes the oldest records; all of them at once, for more than a sweep takes may have come with one batch."""
        while surplus > 0:
            oldest = self._store.expired(math.inf, min(surplus, SWEEP_RECORDS), expiry_queue)
            if not (deleted := self._delete(oldest, expiry_queue, LabelStatus.EVICTED)):
                return
            surplus -= deleted

    def _delete(self, stored: Mapping[bytes, Record], expiry_queue: int, cause: LabelStatus) -> int:
        """Deletes these records and counts what had waited in them; returns how many have gone."""
        if not stored:
            return 0
        expiry = expire(stored, expiry_queue, cause, self._registry)
        if not self._store.commit(expiry.change):  # another writer came first: they are looked at again
            return 0
        self._totals.add(expiry.change.sums)
        self._pending.add(expiry.pending_by_second)
        self._telemetry.dropped_rows["prediction", cause].inc(expiry.predictions)
        self._telemetry.dropped_rows["truth", cause].inc(expiry.truths)
        if cause == LabelStatus.EVICTED:
            self._evicted_up_to = max(self._evicted_up_to, expiry.newest)
        self._has_more = self._has_more or len(stored) == SWEEP_RECORDS
        return len(stored)

    def _tell(self, now: float) -> None:
        sums = self._totals.cumulative(USAGE, SERVER_SERIES_ID)
        oldest = self._pending.oldest(sums)
        self._telemetry.pending_predictions.set(sums.get(PENDING_PREDICTIONS, 0.0))
        self._telemetry.pending_truths.set(sums.get(PENDING_TRUTHS, 0.0))
        self._telemetry.oldest_pending_seconds.set(0.0 if oldest is None else max(0.0, now - oldest))
        self._telemetry.overdue_truths.set(overdue_truths(sums, now))
        self._telemetry.horizon_seconds.set(min(self._retention, max(0.0, now - self._evicted_up_to)))

    def _delete_idle_series(self, now: float) -> None:
        since = now - self._series_retention
        for series_id in self._registry.idle(since):
            if self._store.forget_series(series_id, since):
                self.view.drop(series_id)


def _is_due(last: float, seconds: float, now: float) -> bool:
    """Tells whether something is to be done again; also when the clock was set back."""
    return now - last >= seconds or now < last
