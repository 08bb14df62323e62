"""What falls due with time: windows move, buckets roll up, what has expired is forgotten. In small steps, between groups."""

from __future__ import annotations

from metrics_server.series import Catalog
from metrics_server.store.interface import Change, Store
from metrics_server.totals import Totals
from metrics_server.window import COARSEST, MINUTE, floor, oldest_start, roll_ups

SWEEP_SECONDS = 0.2  # between two looks at expired records: 10,000 a second, more than can arrive for long
SWEEP_RECORDS = 2000  # records a look takes at most: about 2 ms


class Upkeep:
    """Does what is due; `step` is called often and mostly finds nothing."""

    def __init__(self, store: Store, catalog: Catalog, totals: Totals, history: int, series_retention: int) -> None:
        self._store = store
        self._catalog = catalog
        self._totals = totals
        self._history = history
        self._series_retention = series_retention
        self._minute = 0
        self._swept_at = 0.0
        self._rolling_at: float | None = None

    def step(self, now: float) -> None:
        """Does what is due at `now`.

        Raises:
            StoreUnavailable: what was not done is done at a later step.
        """
        if now - self._swept_at >= SWEEP_SECONDS or now < self._swept_at:
            self._forget_records(now)
            self._swept_at = now
        if (minute := floor(now, MINUTE)) != self._minute:
            self._totals.slide(self._store, now)  # before any roll-up: its edges must not lie within a coarser bucket
            self._forget_series(now)
            self._minute, self._rolling_at = minute, now
        if self._rolling_at is not None and not self._fold_one(self._rolling_at):
            self._rolling_at = None

    @property
    def is_busy(self) -> bool:
        """Whether more is due at once."""
        return self._rolling_at is not None

    def _fold_one(self, now: float) -> bool:
        """Folds or forgets one bucket; says whether there was one."""
        folded = any(self._store.roll_up(fine, coarse, before) for fine, coarse, before in roll_ups(now))
        return folded or self._store.forget_before(COARSEST, oldest_start(now, self._history))

    def _forget_records(self, now: float) -> None:
        """Deletes expired halves and event keys."""
        expired = self._store.expired(now, SWEEP_RECORDS)
        if expired:
            self._store.commit(Change(deletes={key: record.version for key, record in expired.items()}))

    def _forget_series(self, now: float) -> None:
        idle = self._catalog.idle(now - self._series_retention)
        for series_id in idle:
            self._store.forget_series(series_id)
            self._catalog.drop(series_id)
        self._totals.drop(idle)
