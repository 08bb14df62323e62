"""The registry of all series: the current ones, which are exposed, and those of older configurations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.metrics.custom_metric import MOST_KEYS, CustomMetric, Family
from metrics_server.metrics.labels import DroppedMetric
from metrics_server.metrics.model import OTHER_CLASSES
from metrics_server.metrics.window import DAY, boundary_before
from metrics_server.series.series import Build, Claims, Identity, Labels, Scoring, Series
from metrics_server.store.interface import Splits, StoredSeries

logger = logging.getLogger(__name__)

SEEN_EVERY = 3600.0  # seconds: how exactly a series remembers when it was last used
MOST_SPLITS = 8  # of the buckets of compared series, in a day: each may add a bucket to those that a roll-up leaves
SAME_BATCH_SECONDS = 1e-3  # beyond it a series that is younger than now tells of a clock that was set back


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
        self._custom_names: dict[str, Family] | None = None  # on the page, by whose they are; None while not known
        self._splits: Splits | None = None  # None while not known

    def restore(self, stored: Iterable[StoredSeries]) -> None:
        """Starts anew from the rows of the store; series of another configuration are kept, but not exposed."""
        by_id: dict[int, Series] = {}
        by_labels: dict[Labels, Series] = {}
        slices: dict[Labels, dict[str, Series]] = {}
        for row in stored:
            self._file(self._restored(row), by_id, by_labels, slices)
        replaced = {series.labels for series in by_id.values() if not series.identity.slice} - by_labels.keys()
        for labels in replaced:
            logger.warning("The series of %s starts anew: its metric configuration changed", "/".join(labels))
        self._by_id, self._by_labels, self._slices = by_id, by_labels, slices
        self._custom_names = self._splits = None

    def update(self, stored: Iterable[StoredSeries]) -> None:
        """Takes rows of the store in the place of those that are there of the same ids."""
        for row in stored:
            self._file(self._restored(row), self._by_id, self._by_labels, self._slices)
        self._custom_names = self._splits = None

    def note_used(self, rows: Iterable[StoredSeries]) -> None:
        """Notes when other writers used series last."""
        for row in rows:
            if (series := self._by_id.get(row.id)) is not None:
                series.note_used(row)

    def _file(
        self,
        series: Series,
        by_id: dict[int, Series],
        by_labels: dict[Labels, Series],
        slices: dict[Labels, dict[str, Series]],
    ) -> None:
        by_id[series.id] = series
        if series.identity.scoring != self._scoring_of(series.labels):
            return
        if series.identity.slice:
            slices.setdefault(series.labels, {})[series.identity.slice] = series
        else:
            by_labels[series.labels] = series

    def _restored(self, row: StoredSeries) -> Series:
        return Series(
            msgspec.json.decode(row.identity, type=Identity),
            self._build,
            row.created_at,
            row.seen_at,
            dict(row.parameters),
            row.predicted_at,
            row.labelled_at,
        )

    def __len__(self) -> int:
        return len(self._by_id)

    def current(self) -> list[Series]:
        """Returns the current series, sorted by their labels, each followed by its slices.

        May be called from any thread: each list is made in one step.
        """
        return [series for parent in self.parents() for series in (parent, *self.slices_of(parent.labels))]

    def parents(self) -> list[Series]:
        """Returns the current series that are no slices, sorted by their labels; may be called from any thread."""
        return sorted(self._by_labels.values(), key=lambda series: series.labels)

    def slices_of(self, labels: Labels) -> list[Series]:
        """Returns the slices of a series, sorted by name."""
        return sorted(self._slices.get(labels, {}).values(), key=lambda series: series.identity.slice)

    def find(self, labels: Labels) -> Series | None:
        """Returns the current series of these labels, if there is one."""
        return self._by_labels.get(labels)

    def get(self, series_id: int) -> Series | None:
        """Returns the series of an id, also one of an older configuration."""
        return self._by_id.get(series_id)

    def latest(self, series: Series) -> Series:
        """Returns a series as it is known now; it may have been read anew since.

        To be asked after its sums were read: then every class in these is known to it.
        """
        return self._by_id.get(series.id, series)

    def admit(self, labels: Labels, at: float, now: float, rows: dict[int, StoredSeries], claims: Claims) -> Series:
        """Returns the current series of these labels, and creates it when there is none.

        Args:
            labels: where the prediction came from.
            at: when it was made; of the first one, comparisons with the series begin there.
            now: Unix seconds.
            rows: collects the rows that have to be written to the store.
            claims: collects what has to be claimed in the store.

        Raises:
            Rejected: the series would exceed --max_series.
        """
        series = self._by_labels.get(labels)
        if series is None:
            if (count := len(self._by_labels)) >= self._max_series:
                raise Rejected(Reason.TOO_MANY_SERIES, f"there are {count} series, the limit of --max_series")
            series = Series(Identity(labels, self._scoring_of(labels)), self._build, self._later_than_all(now), 0.0)
            if self._is_compared(series, second := boundary_before(at, now)):
                series.claim_split(second, claims)
            self._by_id[series.id] = self._by_labels[labels] = series
            self._splits = None
        _touch(series, now, rows)
        return series

    def _is_compared(self, series: Series, second: int) -> bool:
        """Tells whether a new series is to be compared with one that is there, and has not too many beside it."""
        group, predictor = series.labels.group, series.labels.predictor
        of_group = [one for one in self._by_id.values() if one.labels.group == group and not one.identity.slice]
        near = {split for one in of_group if (split := one.split_at) is not None and abs(split - second) < DAY}
        return len(near) < MOST_SPLITS and any(one.labels.predictor != predictor for one in of_group)

    def splits(self) -> Splits:
        """Returns the seconds at which buckets are split, by series: where one began that they are compared with.

        May be called from any thread.
        """
        if (splits := self._splits) is None:
            splits = self._splits = self._splits_of_all()
        return splits

    def _splits_of_all(self) -> Splits:
        by_group: dict[tuple[str, str, str], set[int]] = {}
        parents = [series for series in list(self._by_id.values()) if not series.identity.slice]
        for series in parents:
            if (second := series.split_at) is not None:
                by_group.setdefault(series.labels.group, set()).add(second)
        in_order = {group: tuple(sorted(seconds)) for group, seconds in by_group.items()}
        return {series.id: in_order[series.labels.group] for series in parents if series.labels.group in in_order}

    def _later_than_all(self, now: float) -> float:
        """Returns now, or the next time after all series: of two in one batch it is stored which was first."""
        latest = max((series.created_at for series in self._by_labels.values()), default=-math.inf)
        return max(now, math.nextafter(latest, math.inf)) if latest - now < SAME_BATCH_SECONDS else now

    def slice_of(self, parent: Series, name: str, now: float, rows: dict[int, StoredSeries]) -> Series:
        """Returns the slice of a series with this name, and creates it when there is none.

        Beyond --max_slices of one dimension that is the slice of all other values, such as `tenant=__other__`. `rows`
        collects the rows that have to be written to the store.
        """
        slices = self._slices.setdefault(parent.labels, {})
        if name not in slices:
            dimension = f"{name.partition('=')[0]}="
            if sum(existing.startswith(dimension) for existing in slices) >= self._max_slices:
                name = dimension + OTHER_CLASSES
        series = slices.get(name)
        if series is None:
            identity = Identity(parent.labels, parent.identity.scoring, name)
            series = self._by_id[identity.id] = slices[name] = Series(identity, self._build, now, 0.0)
        _touch(series, now, rows)
        return series

    def first_seen_at(self, current: Iterable[Series]) -> dict[Labels, float]:
        """Returns since when each of these is known, by its labels; one that started anew is as old as its first was.

        May be called from any thread.
        """
        first = {series.labels: series.created_at for series in current}
        for series in list(self._by_id.values()):
            if series.labels in first:
                first[series.labels] = min(series.created_at, first[series.labels])
        return first

    def admit_custom_metric(self, series: Series, metric: CustomMetric, claims: Claims) -> DroppedMetric | None:
        """Claims a slot for a custom metric in its series.

        All series together have a number of keys at most, and a name has one type in all of them: the page could not
        be read otherwise. Names go with the last series that has them.

        Args:
            series: whose metric it is.
            metric: with its tags.
            claims: collects what has to be claimed in the store.

        Returns:
            Why it is to be dropped; None if it is not.
        """
        if metric in series.custom_metrics:
            return None
        if self._custom_names is None:
            self._custom_names = self._names_in_use()
        names = dict.fromkeys(metric.exposed_names, metric.family)
        if any(self._custom_names.get(name, family) != family for name, family in names.items()):
            return DroppedMetric.TYPE
        families = set(self._custom_names.values())
        if metric.family not in families and len(families) >= MOST_KEYS:
            return DroppedMetric.LIMIT
        if not series.claim_custom_metric(metric, claims):
            return DroppedMetric.LIMIT
        self._custom_names |= names
        return None

    def _names_in_use(self) -> dict[str, Family]:
        """Finds the names of the custom metrics of all series, and the family of each."""
        metrics = {metric for series in self._by_id.values() for metric in series.custom_metrics}
        return {name: metric.family for metric in metrics for name in metric.exposed_names}

    def idle(self, before: float) -> list[int]:
        """Returns the ids of the series that were not used since `before`."""
        return [series.id for series in self._by_id.values() if series.seen_at < before]

    def drop(self, series_id: int) -> None:
        """Forgets a series that was deleted from the store."""
        series = self._by_id.pop(series_id, None)
        if series is None:
            return
        self._custom_names = self._splits = None
        # A current series of the same labels may be another one, of another configuration.
        if self._by_labels.get(series.labels) is series:
            del self._by_labels[series.labels]
        slices = self._slices.get(series.labels, {})
        if slices.get(series.identity.slice) is series:
            del slices[series.identity.slice]
        if not slices:
            self._slices.pop(series.labels, None)


def _touch(series: Series, now: float, rows: dict[int, StoredSeries]) -> None:
    """Notes that a series is used now, and collects its row if the stored time is too old."""
    if now - series.seen_at >= SEEN_EVERY:
        series.seen_at = now
        rows[series.id] = series.to_row()
        series.mark_persisted()
