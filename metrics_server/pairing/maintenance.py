"""What falls due with time: windows move, buckets roll up, what has expired is forgotten. In small steps, between
groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from metrics_server.metrics.components import PENDING_PREDICTIONS, PENDING_TRUTHS, SERVER_SERIES_ID
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.window import COARSEST, MINUTE, USAGE, floor, oldest_start, roll_ups
from metrics_server.pairing.expiry import expire
from metrics_server.pairing.usage import EVENT_KEYS, RECORDS, UsageLimits, oldest_since
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Record, Store
from metrics_server.telemetry import Telemetry

SWEEP_SECONDS = 0.2  # between two looks at expired records, unless there are more
SWEEP_RECORDS = 5000  # records a look takes at most: about 0.1 s in a million


class Maintenance:
    """Does what is due; `step` is called often and mostly finds nothing."""

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
    ) -> None:
        self._store = store
        self._registry = registry
        self._totals = totals
        self._telemetry = telemetry
        self._limits = limits
        self._history = history
        self._retention = retention
        self._series_retention = series_retention
        self._minute = 0
        self._swept_at = 0.0
        self._has_more = False
        self._evicted_up_to = 0  # when the newest case was received that had to go before its time
        self._rolling_at: float | None = None

    def step(self, now: float) -> None:
        """Does what is due at `now`.

        Raises:
            StoreUnavailable: what was not done is done at a later step.
        """
        if (minute := floor(now, MINUTE)) != self._minute:
            self._totals.slide(self._store, now)  # before any roll-up: its edges must not lie within a coarser bucket
            self._forget_series(now)
            self._minute, self._rolling_at = minute, now
        if self._rolling_at is not None and not self._fold_one(self._rolling_at):
            self._rolling_at = None
        if self._has_more or now - self._swept_at >= SWEEP_SECONDS or now < self._swept_at:
            self._forget_records(now)
            self._swept_at = now

    @property
    def is_busy(self) -> bool:
        """Whether more is due at once."""
        return self._rolling_at is not None or self._has_more

    def _fold_one(self, now: float) -> bool:
        """Folds or forgets one bucket; says whether there was one."""
        folded = any(self._store.roll_up(fine, coarse, before) for fine, coarse, before in roll_ups(now))
        return folded or self._store.forget_before(COARSEST, oldest_start(now, self._history))

    def _forget_records(self, now: float) -> None:
        """Deletes expired halves and event keys, and of what is kept beyond the limits the oldest."""
        self._has_more = False
        for expiry_queue in (EVENT_KEYS, RECORDS):
            self._forget(self._store.expired(now, SWEEP_RECORDS, expiry_queue), expiry_queue, LabelStatus.EXPIRED)
        for expiry_queue, surplus in self._limits.surplus(self._totals.cumulative(USAGE, SERVER_SERIES_ID)).items():
            left = surplus  # all of it at once: more than a sweep takes may have come with the last group
            while left > 0 and (
                gone := self._forget(
                    self._store.expired(math.inf, min(left, SWEEP_RECORDS), expiry_queue),
                    expiry_queue,
                    LabelStatus.EVICTED,
                )
            ):
                left -= gone
        self._tell(now)

    def _forget(self, records: Mapping[bytes, Record], expiry_queue: int, cause: LabelStatus) -> int:
        """Deletes these records; says how many have gone."""
        if not records:
            return 0
        gone = expire(records, expiry_queue, cause, self._registry)
        if not self._store.commit(gone.change):  # another writer came first: it is looked at again
            return 0
        self._totals.add(gone.change.sums)
        self._telemetry.dropped_rows["prediction", cause].inc(gone.predictions)
        self._telemetry.dropped_rows["truth", cause].inc(gone.truths)
        if cause == LabelStatus.EVICTED:
            self._evicted_up_to = max(self._evicted_up_to, gone.newest)
        self._has_more = self._has_more or len(records) == SWEEP_RECORDS
        return len(records)

    def _tell(self, now: float) -> None:
        sums = self._totals.cumulative(USAGE, SERVER_SERIES_ID)
        since = oldest_since(sums)
        self._telemetry.pending_predictions.set(sums.get(PENDING_PREDICTIONS, 0.0))
        self._telemetry.pending_truths.set(sums.get(PENDING_TRUTHS, 0.0))
        self._telemetry.oldest_pending_seconds.set(0.0 if since is None else max(0.0, now - since))
        self._telemetry.horizon_seconds.set(min(self._retention, max(0.0, now - self._evicted_up_to)))

    def _forget_series(self, now: float) -> None:
        idle = self._registry.idle(now - self._series_retention)
        for series_id in idle:
            self._store.forget_series(series_id)
            self._registry.drop(series_id)
        self._totals.drop(idle)
