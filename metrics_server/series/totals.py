"""The running totals of every series and window, which are read without asking the store.

Reading a week of buckets for every scrape would take seconds; so the writer keeps their sum, adds to it what it has
committed, and takes out the buckets that fall off the far edge. Totals change only after a commit, and are rebuilt from
the store after any failure.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from sys import intern
from typing import TypeAlias

from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.window import CUMULATIVE_BUCKETS, Bucket, edge_of
from metrics_server.store.interface import Register, Store

LARGEST_RATIO = 1e4  # of a subtracted sum to what remains: leaves 12 of 16 digits
EXACT = 2.0**53  # integers up to this are exact

_BySeries = dict[int, dict[str, float]]
Registers: TypeAlias = "Mapping[tuple[int, str], Register]"


@dataclass
class WindowTotals:
    """The sums of the last `length` seconds: of all buckets that start at `edge` or later."""

    name: str
    length: int
    edge: int = 0
    sums: _BySeries = field(default_factory=dict)


class Totals:
    """The sums of all series, cumulative and by window.

    One thread writes; any thread may read `series_totals` and `version`.
    """

    def __init__(self, windows: Mapping[str, int]) -> None:
        self._windows = [WindowTotals(name, length) for name, length in windows.items()]
        self._fresh: _BySeries = {}  # common to all windows, not added to each of them yet
        self._cumulative: dict[Bucket, _BySeries] = {bucket: {} for bucket in CUMULATIVE_BUCKETS}
        self._registers: dict[int, dict[str, Register]] = {}
        self._lock = threading.Lock()
        self._versions: dict[int, int] = {}
        self._changes = count(1)
        self._rebuilt = 0

    def rebuild(self, store: Store, now: float) -> None:
        """Reads all totals from the store."""
        cumulative = {bucket: _copy(store.cumulative(bucket)) for bucket in CUMULATIVE_BUCKETS}
        registers = {series_id: dict(by_name) for series_id, by_name in store.registers().items()}
        windows = []
        for window in self._windows:
            edge = edge_of(window.length, now)
            windows.append(WindowTotals(window.name, window.length, edge, _copy(store.totals(edge))))
        with self._lock:
            self._cumulative, self._windows, self._fresh, self._registers = cumulative, windows, {}, registers
            self._versions, self._rebuilt = {}, next(self._changes)

    def add(self, sums: Mapping[tuple[int, Bucket], Sums]) -> None:
        """Adds committed sums.

        Nearly all are of this minute, and so in all windows: these are added up once, and to each window when it
        slides.
        """
        with self._lock:
            newest = max(window.edge for window in self._windows)
            for (series_id, bucket), increments in sums.items():
                self._versions[series_id] = next(self._changes)
                if bucket.width <= 0:
                    _add(self._cumulative[bucket], series_id, increments)
                    continue
                if bucket.start >= newest:
                    _add(self._fresh, series_id, increments)
                    continue
                for window in self._windows:
                    if bucket.start >= window.edge:
                        _add(window.sums, series_id, increments)

    def put(self, registers: Registers) -> None:
        """Puts committed registers, as the store does."""
        with self._lock:
            for (series_id, name), register in registers.items():
                self._versions[series_id] = next(self._changes)
                by_name = self._registers.setdefault(series_id, {})
                by_name[name] = max(register, by_name.get(name, register))

    def slide(self, store: Store, now: float) -> None:
        """Moves the far edge of every window to where it is at `now`. Must precede a roll-up at the same `now`."""
        self._spread_fresh()
        for window in self._windows:
            edge = edge_of(window.length, now)
            if edge > window.edge:
                self._slide_window(window, edge, store)

    def _slide_window(self, window: WindowTotals, edge: int, store: Store) -> None:
        """Subtracts the buckets before the new edge; reads the window anew if that would cost digits."""
        gone = store.totals(window.edge, edge)
        remaining = {series_id: dict(window.sums.get(series_id, {})) for series_id in gone}  # only this thread writes
        for series_id, sums in gone.items():
            add_into(remaining[series_id], sums, -1)
        lost_digits = any(_loses_digits(sums, remaining[series_id]) for series_id, sums in gone.items())
        slid = _copy(store.totals(edge)) if lost_digits else {**window.sums, **remaining}
        with self._lock:
            window.edge, window.sums = edge, slid
            for series_id in gone:
                self._versions[series_id] = next(self._changes)

    def _spread_fresh(self) -> None:
        """Adds the fresh sums to each window."""
        with self._lock:
            for series_id, sums in self._fresh.items():
                for window in self._windows:
                    _add(window.sums, series_id, sums)
            self._fresh = {}

    def drop(self, series_ids: Iterable[int]) -> None:
        """Forgets series that were deleted."""
        with self._lock:
            for series_id in series_ids:
                for by_series in (self._fresh, *self._cumulative.values(), *(window.sums for window in self._windows)):
                    by_series.pop(series_id, None)
                self._registers.pop(series_id, None)
                self._versions[series_id] = next(self._changes)

    def version(self, series_id: int) -> object:
        """Returns a value that differs whenever the sums of a series do."""
        with self._lock:
            return self._rebuilt, self._versions.get(series_id, 0)

    def cumulative(self, bucket: Bucket, series_id: int) -> Sums:
        """Returns the sums of one series in one cumulative bucket."""
        with self._lock:
            return dict(self._cumulative[bucket].get(series_id, {}))

    def series_totals(self, series_id: int) -> SeriesTotals:
        """Returns the sums of one series, all of one moment."""
        with self._lock:
            fresh = self._fresh.get(series_id, {})
            return SeriesTotals(
                {bucket: dict(by_series.get(series_id, {})) for bucket, by_series in self._cumulative.items()},
                {window.name: _merged(window.sums.get(series_id, {}), fresh) for window in self._windows},
                dict(self._registers.get(series_id, {})),
            )


@dataclass(frozen=True)
class SeriesTotals:
    """The sums of one series: cumulative ones by bucket, and those of each window by its name; and its registers."""

    cumulative: Mapping[Bucket, Sums]
    windows: Mapping[str, Sums]
    registers: Mapping[str, Register] = field(default_factory=dict)


def _loses_digits(gone: Sums, remaining: Sums) -> bool:
    """Returns whether a subtracted real sum was so large that it cost digits of the rest. Counts are exact."""
    return any(
        abs(value) > LARGEST_RATIO * abs(remaining.get(name, 0.0)) and not (abs(value) < EXACT and value.is_integer())
        for name, value in gone.items()
    )


def _merged(sums: Sums, fresh: Sums) -> Sums:
    merged = dict(sums)
    add_into(merged, fresh)
    return merged


def _copy(by_series: Mapping[int, Sums]) -> _BySeries:
    # Many series and windows have components of the same names: interned, each name is in memory once.
    return {
        series_id: {intern(name): value for name, value in sums.items() if value}
        for series_id, sums in by_series.items()
    }


def _add(by_series: _BySeries, series_id: int, sums: Sums, sign: int = 1) -> None:
    target = by_series.get(series_id)
    if target is None and sign > 0:
        by_series[series_id] = dict(sums)
    else:
        add_into(by_series.setdefault(series_id, {}) if target is None else target, sums, sign)
