"""The catalog of the series that exist: those that are shown, and those of older configurations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.metrics.model import OTHER_CLASSES
from metrics_server.series.series import Build, Identity, Labels, Scoring, Series
from metrics_server.store.interface import StoredSeries

logger = logging.getLogger(__name__)

SEEN_EVERY = 3600.0  # seconds: how exactly a series remembers when it was last used


class SeriesRegistry:
    """All series of this server. Only the writer changes it; readers take `current()`."""

    def __init__(
        self, scoring_of: Callable[[Labels], Scoring], build: Build, max_series: int, max_slices: int = 100
    ) -> None:
        self._scoring_of = scoring_of
        self._build = build
        self._max_series = max_series
        self._max_slices = max_slices
        self._by_id: dict[int, Series] = {}
        self._by_labels: dict[Labels, Series] = {}
        self._slices: dict[Labels, dict[str, Series]] = {}

    def restore(self, stored: Iterable[StoredSeries]) -> None:
        """Starts anew from what the store holds; series of another configuration are kept, but not shown."""
        by_id: dict[int, Series] = {}
        by_labels: dict[Labels, Series] = {}
        slices: dict[Labels, dict[str, Series]] = {}
        replaced = set()
        for row in stored:
            identity = msgspec.json.decode(row.identity, type=Identity)
            times = row.predicted_at, row.labelled_at
            series = Series(identity, self._build, row.created_at, row.seen_at, dict(row.parameters), *times)
            by_id[series.id] = series
            if identity.scoring == self._scoring_of(identity.labels):
                if identity.slice:
                    slices.setdefault(identity.labels, {})[identity.slice] = series
                else:
                    by_labels[identity.labels] = series
            elif not identity.slice:
                replaced.add(identity.labels)
        for labels in replaced - by_labels.keys():
            logger.warning("The series of %s starts anew: its metric configuration changed", "/".join(labels))
        self._by_id, self._by_labels, self._slices = by_id, by_labels, slices

    def __len__(self) -> int:
        return len(self._by_id)

    def current(self) -> list[Series]:
        """The series that are shown, sorted by their labels, each before its slices.

        May be called from any thread: each list is made in one step.
        """
        shown = list(self._by_labels.values())
        shown.sort(key=lambda series: series.labels)
        return [one for series in shown for one in (series, *self.slices_of(series.labels))]

    def slices_of(self, labels: Labels) -> list[Series]:
        """The slices of a series, by name."""
        return sorted(self._slices.get(labels, {}).values(), key=lambda series: series.identity.slice)

    def find(self, labels: Labels) -> Series | None:
        """The current series of these labels, if there is one."""
        return self._by_labels.get(labels)

    def get(self, series_id: int) -> Series | None:
        return self._by_id.get(series_id)

    def admit(self, labels: Labels, now: float, seen: dict[int, StoredSeries]) -> Series:
        """The current series of these labels, made if need be.

        `seen` collects the series whose row in the store has to be written.

        Raises:
            Rejected: it would be one more than --max_series.
        """
        series = self._by_labels.get(labels)
        if series is None:
            if (count := len(self._by_labels)) >= self._max_series:
                raise Rejected(Reason.TOO_MANY_SERIES, f"there are {count} series, the limit of --max_series")
            series = Series(Identity(labels, self._scoring_of(labels)), self._build, now, 0.0)
            self._by_id[series.id] = self._by_labels[labels] = series
        if now - series.seen_at >= SEEN_EVERY:
            series.seen_at = now
            seen[series.id] = series.row()
        return series

    def slice_of(self, parent: Series, name: str, now: float, seen: dict[int, StoredSeries]) -> Series:
        """The slice of a series with this name, made if need be; beyond --max_slices the one that stands for the
        rest.
        """
        slices = self._slices.setdefault(parent.labels, {})
        if name not in slices:
            dimension = f"{name.partition('=')[0]}="
            if sum(known.startswith(dimension) for known in slices) >= self._max_slices:
                name = dimension + OTHER_CLASSES
        series = slices.get(name)
        if series is None:
            identity = Identity(parent.labels, parent.identity.scoring, name)
            series = self._by_id[identity.id] = slices[name] = Series(identity, self._build, now, 0.0)
        if now - series.seen_at >= SEEN_EVERY:
            series.seen_at = now
            seen[series.id] = series.row()
        return series

    def idle(self, before: float) -> list[int]:
        """Ids of the series not used since `before`."""
        return [series.id for series in self._by_id.values() if series.seen_at < before]

    def drop(self, series_id: int) -> None:
        """Forgets a series that was deleted from the store."""
        series = self._by_id.pop(series_id, None)
        if series is not None and self._by_labels.get(series.labels) is series:
            del self._by_labels[series.labels]
        if series is not None:
            slices = self._slices.get(series.labels, {})
            if slices.get(series.identity.slice) is series:  # and not one of another configuration
                del slices[series.identity.slice]
            if not slices:
                self._slices.pop(series.labels, None)
