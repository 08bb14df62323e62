"""The aggregating pass: the effects of matching a batch, to one change of the store.

Pairs of one series and bucket are collected and given to the metric model in one call, because a call costs about 30 µs
whatever it holds. There are two clocks: net sums go to the bucket of the prediction's time, cumulative ones only grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from metrics_server.errors import Rejected
from metrics_server.metrics import prediction_stats, reward_stats
from metrics_server.metrics.components import (
    COMPARED,
    LABELS,
    LOGGED,
    LOST,
    PAIRS,
    PREDICTED,
    PREDICTIONS,
    SERVER_SERIES_ID,
    WON,
    paired,
)
from metrics_server.metrics.custom_metric import CustomMetric, CustomType
from metrics_server.metrics.duration_histogram import DELAY, LATENCY, observed
from metrics_server.metrics.labels import DroppedMetric, LabelStatus
from metrics_server.metrics.sequential.estimate import Sequential, ShareEstimate
from metrics_server.metrics.sequential.paired import ACCURACY
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.task import RowValue
from metrics_server.metrics.window import (
    CUMULATIVE,
    CUMULATIVE_REAPPLIED,
    CUMULATIVE_RETRACTED,
    MINUTE,
    Bucket,
    bucket_of,
    bucket_start,
)
from metrics_server.pairing.matching import RewardTarget
from metrics_server.pairing.observation import CustomSamples
from metrics_server.pairing.record import (
    Comparison,
    Contribution,
    Prediction,
    RewardContribution,
    RowContribution,
    Truth,
    Weight,
)
from metrics_server.pairing.scoring import increments_of, weighted
from metrics_server.series.registry import SAME_BATCH_SECONDS, SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.store.interface import Change, Register

MILLISECONDS = 1000.0  # in a second
PERSIST_EVERY = 10.0  # seconds: how exactly the store knows when a series was last used

APPLIED, RETRACTED = 1, -1  # signs

AnyContribution: TypeAlias = "Contribution | RowContribution | RewardContribution"


class PairTarget(NamedTuple):
    """Where pairs go: those of one target are given to the metric model together.

    Attributes:
        bucket: of the prediction time; None when that is older than the history.
        sign: APPLIED or RETRACTED.
        first: whether they are the first of their predictions.
        is_too_old: whether they were older than the history when they were counted.
    """

    series_id: int
    bucket: Bucket | None
    sign: int
    first: bool
    weight: Weight
    is_too_old: bool


class Target(NamedTuple):
    """Whose pair it is, and how much it counts."""

    labels: Labels
    weight: Weight


class PairColumns(NamedTuple):
    """Pairs that nothing else can meet: an element of each column a pair; `times` are those of the predictions."""

    targets: list[Target]
    truths: list[RowValue]
    predictions: list[RowValue]
    times: list[float]


class Aggregator:
    """Collects the effects of one batch of events; `change` is what the store has to apply for them."""

    def __init__(self, registry: SeriesRegistry, now: float, history: int) -> None:
        self._registry = registry
        self._now = now
        self._history = history
        self._change = Change()
        self._buckets: dict[float, Bucket | None] = {}  # by the minute of the prediction time
        self._sums: dict[tuple[int, Bucket], dict[str, float]] = {}
        # Keyed by plain tuples, which take a third of the time to make: see PairTarget for their items.
        self._pairs: dict[tuple[int, Bucket | None, int, bool, Weight, bool], list[tuple[RowValue, RowValue]]] = {}
        self._rows: dict[
            tuple[int, Bucket | None, int], list[tuple[str | None, float | None]]
        ] = {}  # class and number of each
        self._first_rows: dict[int, int] = {}  # rows that came for the first time, by series
        self._classes: dict[tuple[int, int], list[str]] = {}  # by series and sign, the class of each row that is one
        self._durations: dict[tuple[int, str], list[float]] = {}  # by series and component, in seconds
        self._admitted_series: dict[Labels, Series] = {}
        self._used: dict[int, Series] = {}
        self._counts: dict[tuple[int, str], float] = {}  # cumulative, by series and component
        self._retracted_counts: dict[tuple[int, str], float] = {}  # of these, what was taken back
        self._first_labels: dict[tuple[int, str], float] = {}  # the same of first pairs, by series and status
        self.dropped_custom_metrics: Counter[DroppedMetric] = Counter()

    # Series

    def admit(self, labels: Labels, at: float) -> Series:
        """Finds the series of these labels, made if need be for a prediction of this time.

        Raises:
            Rejected: there are too many.
        """
        series = self._admitted_series.get(labels)
        if series is None:
            series = self._registry.admit(labels, at, self._now, self._change.series, self._change.claims)
            self._admitted_series[labels] = series
        return series

    def _admitted(self, labels: Labels, at: float) -> Series | None:
        """Finds the series of a prediction that was taken before; None when it left as idle and its place is taken."""
        try:
            return self.admit(labels, at)
        except Rejected:
            return None

    def _slices(self, series: Series, names: Iterable[str]) -> list[Series]:
        return [self._registry.slice_of(series, name, self._now, self._change.series) for name in names]

    def _contributed(self, contribution: AnyContribution) -> Iterator[int]:
        """Yields the series that something was put into, as far as they are still there."""
        own = contribution.series, contribution.series_created_at
        for series_id, created_at in (own, *contribution.slices):
            series = self._registry.get(series_id)
            # One that left and came back is younger; times within one batch are apart by next to nothing.
            if series is not None and abs(series.created_at - created_at) < SAME_BATCH_SECONDS:
                yield series_id

    # Pairs

    def resolve(
        self, prediction: Prediction, truth: RowValue, weight: Weight, *, is_flat: bool
    ) -> Contribution | LabelStatus:
        if (series := self._admitted(prediction.labels, prediction.at)) is None:
            return LabelStatus.UNSCORABLE
        resolved = series.resolve(truth, prediction.value, self._change.claims, is_flat=is_flat)
        if isinstance(resolved, LabelStatus):
            return resolved
        pair = Contribution(series.id, series.created_at, prediction.at, *resolved, [], weight)
        if prediction.slices:
            for part in self._slices(series, prediction.slices):
                part.adopt_parent_model(series, resolved, self._change.claims)
                pair.slices.append((part.id, part.created_at))
        return pair

    def apply_pair(self, pair: Contribution, *, first: bool) -> None:
        bucket = self._bucket(pair.at)
        pair.is_too_old = bucket is None
        if not pair.slices and first:  # just resolved: its series is there
            part = self._split(bucket, pair.series, pair.at)
            target = pair.series, part, APPLIED, True, pair.weight, pair.is_too_old
            self._pairs.setdefault(target, []).append((pair.y_true, pair.y_pred))
        else:
            self._post(pair, APPLIED, first=first)

    def take_pairs(self, columns: PairColumns) -> None:
        """Counts pairs that keep no record, each the first of its prediction; their series are admitted."""
        claims, posted = self._change.claims, self._pairs
        for (labels, weight), truth, prediction, at in zip(*columns, strict=True):
            series = self._admitted_series[labels]
            resolved = series.resolve(truth, prediction, claims)
            if isinstance(resolved, LabelStatus):
                self._count(series.id, LABELS + resolved)
                continue
            bucket = self._bucket(at)
            target = series.id, bucket, APPLIED, True, weight, bucket is None
            posted.setdefault(target, []).append(resolved)

    def retract_pair(self, pair: Contribution) -> None:
        self._post(pair, RETRACTED, first=False)

    def _post(self, pair: Contribution, sign: int, *, first: bool) -> None:
        bucket = self._bucket(pair.at)
        for series_id in self._contributed(pair):
            part = self._split(bucket, series_id, pair.at)
            target = series_id, part, sign, first, pair.weight, pair.is_too_old
            self._pairs.setdefault(target, []).append((pair.y_true, pair.y_pred))

    # Comparisons

    def is_right(self, pair: Contribution) -> bool | None:
        """Asks the metric model: its accuracy of this pair alone is 1 or 0."""
        series = self._registry.get(pair.series)
        if series is None or not isinstance(series.model, Sequential):
            return None
        sums, refused = increments_of(series, series.model, [(pair.y_true, pair.y_pred)])
        found = None if refused else series.model.estimate(ACCURACY, sums)
        return bool(found.value) if isinstance(found, ShareEstimate) else None

    def apply_comparison(self, comparison: Comparison) -> None:
        self._post_comparison(comparison, APPLIED)

    def retract_comparison(self, comparison: Comparison) -> None:
        self._post_comparison(comparison, RETRACTED)

    def _post_comparison(self, comparison: Comparison, sign: int) -> None:
        series = self._registry.get(comparison.series)
        if series is None or abs(series.created_at - comparison.series_created_at) >= SAME_BATCH_SECONDS:
            return
        sums = {paired(comparison.other, COMPARED): 1.0}
        if comparison.outcome:
            sums[paired(comparison.other, WON if comparison.outcome > 0 else LOST)] = 1.0
        bucket = self._split(self._bucket(comparison.at), series.id, comparison.at)
        self._net(series.id, bucket, sums, sign)

    # Statuses

    def status(self, prediction: Prediction, status: LabelStatus) -> None:
        self._count_status(prediction, status, APPLIED)

    def retract_status(self, prediction: Prediction, status: LabelStatus) -> None:
        self._count_status(prediction, status, RETRACTED)

    def _count_status(self, prediction: Prediction, status: LabelStatus, sign: int) -> None:
        if (series := self._admitted(prediction.labels, prediction.at)) is None:
            return
        for counted in (series, *self._slices(series, prediction.slices)):
            self._count(counted.id, LABELS + status, sign)

    def delay(self, prediction: Prediction, truth: Truth) -> None:
        self._observe(prediction.labels, DELAY, max(0.0, truth.time - prediction.at), prediction.slices)

    # Rows of the request log

    def apply_row(self, prediction: Prediction, *, first: bool) -> RowContribution:
        value = prediction.value
        if (series := self._admitted(prediction.labels, prediction.at)) is None:
            return RowContribution(SERVER_SERIES_ID, 0.0, prediction.at, None, None)
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        label, is_class = series.predicted_class(value, self._change.claims)
        row = RowContribution(series.id, series.created_at, prediction.at, label, number)
        for part in self._slices(series, prediction.slices) if prediction.slices else ():
            if label is not None and is_class:
                part.claim_class(label, self._change.claims)
            row.slices.append((part.id, part.created_at))
        row.is_class_counted = is_class and label is not None
        if first:
            for series_id in self._contributed(row):
                self._first_rows[series_id] = self._first_rows.get(series_id, 0) + 1
        self._post_row(row, APPLIED)
        return row

    def retract_row(self, row: RowContribution) -> None:
        self._post_row(row, RETRACTED)

    def _post_row(self, row: RowContribution, sign: int) -> None:
        bucket = self._bucket(row.at)
        is_new = sign == APPLIED and not row.slices  # its series is there
        for series_id in (row.series,) if is_new else self._contributed(row):
            part = self._split(bucket, series_id, row.at)
            self._rows.setdefault((series_id, part, sign), []).append((row.label, row.number))
            if row.is_class_counted:
                self._classes.setdefault((series_id, sign), []).append(str(row.label))

    def latency(self, labels: Labels, seconds: float) -> None:
        """Notes how long a prediction took."""
        self._observe(labels, LATENCY, seconds, [])

    def _observe(self, labels: Labels, name: str, seconds: float, slices: list[str]) -> None:
        if (series := self._registry.find(labels)) is not None:
            for counted in (series, *self._slices(series, slices)):
                self._durations.setdefault((counted.id, name), []).append(seconds)

    # Custom metrics

    def take_custom_metrics(self, labels: Labels, at: float, custom: CustomSamples) -> None:
        """Takes what a response at this time says of its model."""
        self.dropped_custom_metrics += custom.dropped
        if (series := self._admitted(labels, at)) is None:
            return
        for metric, value in custom.samples:
            refused = self._registry.admit_custom_metric(series, metric, self._change.claims)
            if refused is None:
                self._take_custom_metric(series.id, metric, value, at)
            else:
                self.dropped_custom_metrics[refused] += 1

    def _take_custom_metric(self, series_id: int, metric: CustomMetric, value: float, at: float) -> None:
        name = metric.component
        if metric.type is CustomType.COUNTER:
            self._add(series_id, CUMULATIVE, {name: value})
        elif metric.type is CustomType.TIMER:
            self._durations.setdefault((series_id, name), []).append(value / MILLISECONDS)
        else:
            registers, register = self._change.registers, Register(at, value)
            registers[series_id, name] = max(register, registers.get((series_id, name), register))

    # Rewards

    def apply_reward(self, value: float, about: RewardTarget) -> RewardContribution:
        if (series := self._admitted(about.labels, about.at)) is None:
            return RewardContribution(SERVER_SERIES_ID, 0.0, about.at, None, value)
        slices = [(part.id, part.created_at) for part in self._slices(series, about.slices)]
        reward = RewardContribution(series.id, series.created_at, about.at, None, value, slices)
        self._post_reward(reward, APPLIED)
        return reward

    def retract_reward(self, reward: RewardContribution) -> None:
        self._post_reward(reward, RETRACTED)

    def _post_reward(self, reward: RewardContribution, sign: int) -> None:
        bucket = self._bucket(reward.at)
        for series_id in self._contributed(reward):
            part = self._split(bucket, series_id, reward.at)
            self._net(series_id, part, reward_stats.increments(reward.value), sign)
            self._count(series_id, reward_stats.REWARDS, sign)
            self._count(series_id, reward_stats.component_of(reward.value), sign)

    # The change

    def change(self) -> Change:
        """Makes the change for everything collected; the caller adds the records."""
        for (series_id, bucket, sign), values in self._rows.items():
            sums = {LOGGED: float(len(values)), **prediction_stats.increments(values)}
            self._net(series_id, bucket, sums, sign)
        for series_id, count in self._first_rows.items():
            self._count_first_rows(series_id, count)
        for (series_id, sign), labels in self._classes.items():
            for label, times in Counter(labels).items():
                self._count(series_id, PREDICTED + label, sign * times)
        for (series_id, name), durations in self._durations.items():
            self._add(series_id, CUMULATIVE, observed(name, durations))
        for target, pairs in self._pairs.items():
            self._score(PairTarget(*target), pairs)
        self._add_counts()
        self._change.sums = {target: sums for target, sums in self._sums.items() if sums}
        for series in self._used.values():
            if series.needs_persist(PERSIST_EVERY):
                self._change.series[series.id] = series.to_row()
                series.mark_persisted()
        return self._change

    def _count_first_rows(self, series_id: int, count: int) -> None:
        """Counts rows of the request log that came for the first time."""
        if (series := self._registry.get(series_id)) is not None:
            series.predicted_at = self._now
            self._used[series_id] = series
            self._count(series_id, PREDICTIONS, count)

    def _add_counts(self) -> None:
        """Adds the counts of this batch. What was counted and taken back in it, as by most corrections, never was.

        First labels were: they came, whatever came after them.
        """
        for (series_id, name), count in self._first_labels.items():
            self._add(series_id, CUMULATIVE, {name: count})
        counts, retracted = self._counts, self._retracted_counts
        for bucket, mine, others in (CUMULATIVE, counts, retracted), (CUMULATIVE_RETRACTED, retracted, counts):
            for key, count in mine.items():
                if (left := count - others.get(key, 0.0)) > 0:
                    series_id, name = key
                    self._add(series_id, bucket, {name: left})

    def _score(self, target: PairTarget, pairs: list[tuple[RowValue, RowValue]]) -> None:
        """Gives the pairs of a target to their model; what that refuses leaves the server's own counts too."""
        series_id, bucket, sign, first, weight, is_too_old = target
        series = self._registry.get(series_id)
        if series is None or series.model is None:
            return
        sums, refused = increments_of(series, series.model, pairs)
        taken = len(pairs) - refused
        if refused:
            self._count(series_id, LABELS + LabelStatus.TASK_MISMATCH, sign * refused)
        if taken:
            status = LabelStatus.TOO_OLD if is_too_old else LabelStatus.MATCHED
            if first:
                key = series_id, LABELS + status
                self._first_labels[key] = self._first_labels.get(key, 0.0) + taken
            else:
                self._count(series_id, LABELS + status, sign * taken)
        if taken and sign == APPLIED:
            series.labelled_at = self._now
            self._used[series_id] = series
        if bucket is not None:
            net = weighted(sums, taken, weight) if weight != 1 else dict(sums)
            net[PAIRS] = float(taken)
            self._add(series_id, bucket, net, sign)
        if (prefixes := series.counted) is not None:
            counted = {name: value for name, value in sums.items() if name.startswith(prefixes)}
            self._grow(series_id, counted, sign, first=first)

    def _grow(self, series_id: int, sums: Sums, sign: int, *, first: bool) -> None:
        """Adds to the cumulative sums, which only grow: retractions have sums of their own."""
        if sign == RETRACTED:
            self._add(series_id, CUMULATIVE_RETRACTED, sums)
            return
        self._add(series_id, CUMULATIVE, sums)
        if not first:
            self._add(series_id, CUMULATIVE_REAPPLIED, sums)

    def _bucket(self, at: float) -> Bucket | None:
        """Finds the bucket of a prediction time; asked several times for each event, nearly always for one minute."""
        minute = at // MINUTE
        if minute not in self._buckets:
            self._buckets[minute] = bucket_of(at, self._now, self._history)
        return self._buckets[minute]

    def _split(self, bucket: Bucket | None, series_id: int, at: float) -> Bucket | None:
        """Finds the bucket of one series where those of its own are split; minutes never are."""
        if bucket is None or bucket.width == MINUTE or (splits := self._registry.splits().get(series_id)) is None:
            return bucket
        return Bucket(bucket.width, bucket_start(at, bucket.width, splits))

    def _count(self, series_id: int, name: str, count: float = 1.0) -> None:
        """Counts in the cumulative sums, or takes back what was counted there, by the sign."""
        counts = self._counts if count > 0 else self._retracted_counts
        key = series_id, name
        counts[key] = counts.get(key, 0.0) + abs(count)

    def _net(self, series_id: int, bucket: Bucket | None, sums: Sums, sign: int) -> None:
        if bucket is not None:  # older than the history: counted, but in no window
            self._add(series_id, bucket, sums, sign)

    def _add(self, series_id: int, bucket: Bucket, sums: Sums, sign: int = APPLIED) -> None:
        target = self._sums.get((series_id, bucket))
        if target is None and sign == APPLIED:
            self._sums[series_id, bucket] = {name: value for name, value in sums.items() if value}
        else:
            add_into(target if target is not None else self._sums.setdefault((series_id, bucket), {}), sums, sign)
