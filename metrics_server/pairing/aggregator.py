"""From the moves of a group of events to one change of the store: the book that pairing writes into.

Pairs of one series and bucket are collected and given to the metric model in one call, because a call costs about 30 µs
whatever it holds. Two clocks: what is net goes to the bucket of the prediction's time, what only grows to the ledgers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from metrics_server.errors import Rejected
from metrics_server.metrics import prediction_stats as output
from metrics_server.metrics import reward_stats as reward
from metrics_server.metrics.components import LABELS, LOGGED, PAIRS, PREDICTED, PREDICTIONS, SERVER_SERIES_ID
from metrics_server.metrics.duration_histogram import DELAY, LATENCY, observed
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.task import RowValue
from metrics_server.metrics.window import (
    CUMULATIVE,
    CUMULATIVE_REAPPLIED,
    CUMULATIVE_RETRACTED,
    MINUTE,
    Bucket,
    bucket_of,
)
from metrics_server.pairing.record import Contribution, Prediction, Truth, Weight
from metrics_server.pairing.scorer import increments_of, weighted
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.store.interface import Change

PERSIST_EVERY = 10.0  # seconds: how exactly the store knows when a series was last used

_Target = tuple[
    int, "Bucket | None", int, bool, Weight
]  # series, bucket, sign, whether it is the first of its prediction, weight


class Aggregator:
    """Collects the effects of one group of events; `change` is what the store has to apply for them."""

    def __init__(self, registry: SeriesRegistry, now: float, history: int) -> None:
        self._registry = registry
        self._now = now
        self._history = history
        self._change = Change()
        self._buckets: dict[float, Bucket | None] = {}
        self._sums: dict[tuple[int, Bucket], dict[str, float]] = {}
        self._pairs: dict[_Target, list[tuple[RowValue, RowValue]]] = {}
        self._rows: dict[
            tuple[int, Bucket | None, int], list[tuple[str | None, float | None]]
        ] = {}  # their class, and their number
        self._first_rows: dict[int, list[str | None]] = {}  # of a series, their class
        self._durations: dict[tuple[int, str], list[float]] = {}  # of a series, by component
        self._touched: dict[int, Series] = {}
        self._counts: dict[tuple[int, str], float] = {}  # in the ledger of what was applied, ever

    def admit(self, labels: Labels) -> Series:
        """The series of these labels, made if need be; raises `Rejected` when there are too many."""
        return self._registry.admit(labels, self._now, self._change.series)

    def _admitted(self, labels: Labels) -> Series | None:
        """The series of a prediction that is known already; None when it left as idle and its place is taken."""
        try:
            return self.admit(labels)
        except Rejected:
            return None

    def _slices(self, series: Series, names: list[str]) -> list[Series]:
        return [self._registry.slice_of(series, name, self._now, self._change.series) for name in names]

    def _targets(self, applied: Contribution) -> Iterator[int]:
        """The series that this was put into, as far as they are still there."""
        for series_id, series_created_at in ((applied.series, applied.series_created_at), *applied.slices):
            series = self._registry.get(series_id)
            if series is not None and series.created_at == series_created_at:
                yield series_id

    def resolve(self, prediction: Prediction, truth: RowValue, weight: Weight) -> Contribution | str:
        if (series := self._admitted(prediction.labels)) is None:
            return LabelStatus.UNSCORABLE
        resolved = series.resolve(truth, prediction.value, self._change.claims)
        if isinstance(resolved, str):
            return resolved
        applied = Contribution(series.id, series.created_at, prediction.at, *resolved, [], weight)
        if prediction.slices:
            for part in self._slices(series, prediction.slices):
                part.adopt_parent_model(series, resolved, self._change.claims)
                applied.slices.append((part.id, part.created_at))
        return applied

    def apply_pair(self, applied: Contribution, *, first: bool) -> None:
        if not applied.slices and first:  # just resolved: its series is there
            target = applied.series, self._bucket(applied.at), 1, True, applied.weight
            self._pairs.setdefault(target, []).append((applied.y_true, applied.y_pred))
        else:
            self._post(applied, 1, first=first)

    def retract_pair(self, applied: Contribution) -> None:
        self._post(applied, -1, first=False)

    def _post(self, applied: Contribution, sign: int, *, first: bool) -> None:
        bucket = self._bucket(applied.at)
        for series_id in self._targets(applied):
            self._pairs.setdefault((series_id, bucket, sign, first, applied.weight), []).append(
                (applied.y_true, applied.y_pred)
            )

    def apply_row(self, prediction: Prediction, *, first: bool) -> Contribution:
        if (series := self._admitted(prediction.labels)) is None:
            return Contribution(SERVER_SERIES_ID, 0.0, prediction.at, None, None)
        numeric = isinstance(prediction.value, (int, float)) and not isinstance(prediction.value, bool)
        label, is_class = series.predicted_class(prediction.value, self._change.claims)
        applied = Contribution(
            series.id, series.created_at, prediction.at, label, prediction.value if numeric else None
        )
        for part in self._slices(series, prediction.slices) if prediction.slices else ():
            if label is not None and is_class:
                part.claim_class(label, self._change.claims)
            applied.slices.append((part.id, part.created_at))
        if first:
            for series_id in self._targets(applied):
                self._first_rows.setdefault(series_id, []).append(label if is_class else None)
        self._row(applied, 1)
        return applied

    def retract_row(self, applied: Contribution) -> None:
        self._row(applied, -1)

    def _row(self, applied: Contribution, sign: int) -> None:
        bucket = self._bucket(applied.at)
        for series_id in (applied.series,) if sign > 0 and not applied.slices else self._targets(applied):
            self._rows.setdefault((series_id, bucket, sign), []).append((applied.y_true, applied.y_pred))  # type: ignore[arg-type]

    def apply_reward(self, value: float, labels: Labels, at: float, slices: list[str], *, first: bool) -> Contribution:
        if (series := self._admitted(labels)) is None:
            return Contribution(SERVER_SERIES_ID, 0.0, at, None, value)
        applied = Contribution(series.id, series.created_at, at, None, value)
        applied.slices = [(part.id, part.created_at) for part in self._slices(series, slices)]
        if first:
            for series_id in self._targets(applied):
                self._count(series_id, reward.REWARDS)
                self._count(series_id, reward.component_of(value))
        self._reward(applied, 1)
        return applied

    def retract_reward(self, applied: Contribution) -> None:
        self._reward(applied, -1)

    def _reward(self, applied: Contribution, sign: int) -> None:
        if isinstance(applied.y_pred, (int, float)):
            for series_id in self._targets(applied):
                self._net(series_id, self._bucket(applied.at), reward.increments(float(applied.y_pred)), sign)

    def status(self, prediction: Prediction, status: str) -> None:
        if (series := self._admitted(prediction.labels)) is None:
            return
        for counted in (series, *self._slices(series, prediction.slices)):
            self._count(counted.id, LABELS + status)

    def delay(self, prediction: Prediction, truth: Truth) -> None:
        self._observe(prediction.labels, DELAY, max(0.0, truth.time - prediction.at), prediction.slices)

    def latency(self, labels: Labels, seconds: float) -> None:
        """Notes how long a prediction took."""
        self._observe(labels, LATENCY, seconds, [])

    def _observe(self, labels: Labels, name: str, seconds: float, slices: list[str]) -> None:
        if (series := self._registry.find(labels)) is not None:
            for counted in (series, *self._slices(series, slices)):
                self._durations.setdefault((counted.id, name), []).append(seconds)

    def change(self) -> Change:
        """The change for everything collected; the caller adds the records."""
        for (series_id, bucket, sign), values in self._rows.items():
            self._net(series_id, bucket, {LOGGED: float(len(values)), **output.increments(values)}, sign)
        for series_id, seen in self._first_rows.items():
            self._see(series_id, seen)
        for (series_id, name), durations in self._durations.items():
            self._add(series_id, CUMULATIVE, observed(name, durations))
        for target, pairs in self._pairs.items():
            self._score(target, pairs)
        for (series_id, name), count in self._counts.items():
            self._add(series_id, CUMULATIVE, {name: count})
        self._change.sums = {target: sums for target, sums in self._sums.items() if sums}
        for series in self._touched.values():
            if series.needs_persist(PERSIST_EVERY):
                self._change.series[series.id] = series.to_row()
                series.mark_persisted()
        return self._change

    def _see(self, series_id: int, labels: list[str | None]) -> None:
        """Counts rows of the request log that came for the first time."""
        if (series := self._registry.get(series_id)) is None:
            return
        series.predicted_at = self._now
        self._touched[series_id] = series
        self._count(series_id, PREDICTIONS, len(labels))
        for label, count in Counter(labels).items():
            if label is not None:
                self._count(series_id, PREDICTED + label, count)

    def _score(self, target: _Target, pairs: list[tuple[RowValue, RowValue]]) -> None:
        """Gives the pairs of one series and bucket to its model; what that refuses leaves the server's own counts
        too.
        """
        series_id, bucket, sign, first, weight = target
        series = self._registry.get(series_id)
        if series is None or series.model is None:
            return
        sums, refused = increments_of(series, series.model, pairs)
        taken = len(pairs) - refused
        if refused and sign > 0:
            self._count(series_id, LABELS + LabelStatus.TASK_MISMATCH, refused)
        if first and taken:
            self._count(series_id, LABELS + (LabelStatus.TOO_OLD if bucket is None else LabelStatus.MATCHED), taken)
            series.labelled_at = self._now
            self._touched[series_id] = series
        net = sums if weight == 1 else weighted(sums, taken, weight)
        self._net(series_id, bucket, {**net, PAIRS: float(taken)}, sign)
        if series.counted is not None:
            counted = series.counted
            self._grow(
                series_id, {name: value for name, value in sums.items() if name.startswith(counted)}, sign, first=first
            )

    def _grow(self, series_id: int, sums: Sums, sign: int, *, first: bool) -> None:
        """Writes into the ledgers that only grow."""
        if sign < 0:
            self._add(series_id, CUMULATIVE_RETRACTED, sums)
            return
        self._add(series_id, CUMULATIVE, sums)
        if not first:
            self._add(series_id, CUMULATIVE_REAPPLIED, sums)

    def _bucket(self, at: float) -> Bucket | None:
        """The bucket of a prediction time; asked several times for each event, nearly always for the same minute."""
        minute = at // MINUTE
        if minute not in self._buckets:
            self._buckets[minute] = bucket_of(at, self._now, self._history)
        return self._buckets[minute]

    def _count(self, series_id: int, name: str, count: float = 1.0) -> None:
        key = series_id, name
        self._counts[key] = self._counts.get(key, 0.0) + count

    def _net(self, series_id: int, bucket: Bucket | None, sums: Sums, sign: int) -> None:
        if bucket is not None:  # older than the history: counted, but in no window
            self._add(series_id, bucket, sums, sign)

    def _add(self, series_id: int, bucket: Bucket, sums: Sums, sign: int = 1) -> None:
        target = self._sums.get((series_id, bucket))
        if target is None and sign > 0:
            self._sums[series_id, bucket] = {name: value for name, value in sums.items() if value}
        else:
            add_into(target if target is not None else self._sums.setdefault((series_id, bucket), {}), sums, sign)
