"""From the moves of a group of events to one change of the store: the book that pairing writes into.

Pairs of one series and bucket are collected and given to the metric model in one call, because a call costs about 30 µs
whatever it holds. Two clocks: what is net goes to the bucket of the prediction's time, what only grows to the ledgers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from metrics_server import output, reward
from metrics_server.case import Applied, Known, Said, Weight
from metrics_server.catalog import Catalog
from metrics_server.distribution import DELAY, LATENCY, observed
from metrics_server.errors import Rejected
from metrics_server.pairing import MATCHED
from metrics_server.scorer import increments_of, weighted
from metrics_server.series import Labels, Series
from metrics_server.store.interface import Change
from metrics_server.sums import Sums, add_into, component
from metrics_server.task import TASK_MISMATCH, UNSCORABLE, Value
from metrics_server.window import EVER, MINUTE, REAPPLIED, RETRACTED, Bucket, bucket_of

# Components that the server itself keeps beside those of the metric model.
PAIRS = "server/pairs"  # bucket: labelled predictions
LOGGED = "server/logged"  # bucket: rows of the request log
PREDICTIONS = "server/predictions"  # ever: rows of the request log
LABELS = component("server/labels", "")  # ever, by status
PREDICTED = component("server/predicted", "")  # ever, by class

TOO_OLD = "too_old"
NOTED_EVERY = 10.0  # seconds: how exactly the store knows when a series was last used
NOWHERE = 0  # the id of no series

_Target = tuple[int, "Bucket | None", int, bool, Weight]  # series, bucket, sign, whether it is the first of its prediction, weight


class Ledger:
    """Collects the effects of one group of events; `change` is what the store has to apply for them."""

    def __init__(self, catalog: Catalog, now: float, history: int) -> None:
        self._catalog = catalog
        self._now = now
        self._history = history
        self._change = Change()
        self._buckets: dict[float, Bucket | None] = {}
        self._sums: dict[tuple[int, Bucket], dict[str, float]] = {}
        self._pairs: dict[_Target, list[tuple[Value, Value]]] = {}
        self._rows: dict[tuple[int, Bucket | None, int], list[tuple[str | None, float | None]]] = {}  # their class, and their number
        self._first_rows: dict[int, list[str | None]] = {}  # of a series, their class
        self._durations: dict[tuple[int, str], list[float]] = {}  # of a series, by component
        self._touched: dict[int, Series] = {}
        self._counts: dict[tuple[int, str], float] = {}  # in the ledger of what was applied, ever

    def admit(self, labels: Labels) -> Series:
        """The series of these labels, made if need be; raises `Rejected` when there are too many."""
        return self._catalog.admit(labels, self._now, self._change.series)

    def _admitted(self, labels: Labels) -> Series | None:
        """The series of a prediction that is known already; None when it left as idle and its place is taken."""
        try:
            return self.admit(labels)
        except Rejected:
            return None

    def _slices(self, series: Series, names: list[str]) -> list[Series]:
        return [self._catalog.slice_of(series, name, self._now, self._change.series) for name in names]

    def _targets(self, applied: Applied) -> Iterator[int]:
        """The series that this was put into, as far as they are still there."""
        for series_id, born in ((applied.series, applied.born), *applied.slices):
            series = self._catalog.get(series_id)
            if series is not None and series.created_at == born:
                yield series_id

    def resolve(self, said: Said, truth: Value, weight: Weight) -> Applied | str:
        if (series := self._admitted(said.labels)) is None:
            return UNSCORABLE
        resolved = series.resolve(truth, said.value, self._change.claims)
        if isinstance(resolved, str):
            return resolved
        applied = Applied(series.id, series.created_at, said.at, *resolved, [], weight)
        if said.slices:
            for part in self._slices(series, said.slices):
                part.follow(series, resolved, self._change.claims)
                applied.slices.append((part.id, part.created_at))
        return applied

    def apply_pair(self, applied: Applied, *, first: bool) -> None:
        if not applied.slices and first:  # just resolved: its series is there
            target = applied.series, self._bucket(applied.at), 1, True, applied.weight
            self._pairs.setdefault(target, []).append((applied.y_true, applied.y_pred))
        else:
            self._post(applied, 1, first=first)

    def take_pair(self, applied: Applied) -> None:
        self._post(applied, -1, first=False)

    def _post(self, applied: Applied, sign: int, *, first: bool) -> None:
        bucket = self._bucket(applied.at)
        for series_id in self._targets(applied):
            self._pairs.setdefault((series_id, bucket, sign, first, applied.weight), []).append((applied.y_true, applied.y_pred))

    def apply_row(self, said: Said, *, first: bool) -> Applied:
        if (series := self._admitted(said.labels)) is None:
            return Applied(NOWHERE, 0.0, said.at, None, None)
        numeric = isinstance(said.value, (int, float)) and not isinstance(said.value, bool)
        label, is_class = series.predicted_class(said.value, self._change.claims)
        applied = Applied(series.id, series.created_at, said.at, label, said.value if numeric else None)
        for part in self._slices(series, said.slices) if said.slices else ():
            if label is not None and is_class:
                part.claim_class(label, self._change.claims)
            applied.slices.append((part.id, part.created_at))
        if first:
            for series_id in self._targets(applied):
                self._first_rows.setdefault(series_id, []).append(label if is_class else None)
        self._row(applied, 1)
        return applied

    def take_row(self, applied: Applied) -> None:
        self._row(applied, -1)

    def _row(self, applied: Applied, sign: int) -> None:
        bucket = self._bucket(applied.at)
        for series_id in (applied.series,) if sign > 0 and not applied.slices else self._targets(applied):
            self._rows.setdefault((series_id, bucket, sign), []).append((applied.y_true, applied.y_pred))  # type: ignore[arg-type]

    def apply_reward(self, value: float, labels: Labels, at: float, slices: list[str], *, first: bool) -> Applied:
        if (series := self._admitted(labels)) is None:
            return Applied(NOWHERE, 0.0, at, None, value)
        applied = Applied(series.id, series.created_at, at, None, value)
        applied.slices = [(part.id, part.created_at) for part in self._slices(series, slices)]
        if first:
            for series_id in self._targets(applied):
                self._count(series_id, reward.REWARDS)
                self._count(series_id, reward.component_of(value))
        self._reward(applied, 1)
        return applied

    def take_reward(self, applied: Applied) -> None:
        self._reward(applied, -1)

    def _reward(self, applied: Applied, sign: int) -> None:
        if isinstance(applied.y_pred, (int, float)):
            for series_id in self._targets(applied):
                self._net(series_id, self._bucket(applied.at), reward.increments(float(applied.y_pred)), sign)

    def status(self, said: Said, status: str) -> None:
        if (series := self._admitted(said.labels)) is None:
            return
        for counted in (series, *self._slices(series, said.slices)):
            self._count(counted.id, LABELS + status)

    def delay(self, said: Said, truth: Known) -> None:
        self._observe(said.labels, DELAY, max(0.0, truth.time - said.at), said.slices)

    def latency(self, labels: Labels, seconds: float) -> None:
        """Notes how long a prediction took."""
        self._observe(labels, LATENCY, seconds, [])

    def _observe(self, labels: Labels, name: str, seconds: float, slices: list[str]) -> None:
        if (series := self._catalog.find(labels)) is not None:
            for counted in (series, *self._slices(series, slices)):
                self._durations.setdefault((counted.id, name), []).append(seconds)

    def change(self) -> Change:
        """The change for everything collected; the caller adds the records."""
        for (series_id, bucket, sign), values in self._rows.items():
            self._net(series_id, bucket, {LOGGED: float(len(values)), **output.increments(values)}, sign)
        for series_id, seen in self._first_rows.items():
            self._see(series_id, seen)
        for (series_id, name), durations in self._durations.items():
            self._add(series_id, EVER, observed(name, durations))
        for target, pairs in self._pairs.items():
            self._score(target, pairs)
        for (series_id, name), count in self._counts.items():
            self._add(series_id, EVER, {name: count})
        self._change.sums = {target: sums for target, sums in self._sums.items() if sums}
        for series in self._touched.values():
            if series.is_behind(NOTED_EVERY):
                self._change.series[series.id] = series.row()
        return self._change

    def _see(self, series_id: int, labels: list[str | None]) -> None:
        """Counts rows of the request log that came for the first time."""
        if (series := self._catalog.get(series_id)) is None:
            return
        series.predicted_at = self._now
        self._touched[series_id] = series
        self._count(series_id, PREDICTIONS, len(labels))
        for label, count in Counter(labels).items():
            if label is not None:
                self._count(series_id, PREDICTED + label, count)

    def _score(self, target: _Target, pairs: list[tuple[Value, Value]]) -> None:
        """Gives the pairs of one series and bucket to its model; what that refuses leaves the server's own counts too."""
        series_id, bucket, sign, first, weight = target
        series = self._catalog.get(series_id)
        if series is None or series.model is None:
            return
        sums, refused = increments_of(series, series.model, pairs)
        taken = len(pairs) - refused
        if refused and sign > 0:
            self._count(series_id, LABELS + TASK_MISMATCH, refused)
        if first and taken:
            self._count(series_id, LABELS + (TOO_OLD if bucket is None else MATCHED), taken)
            series.labelled_at = self._now
            self._touched[series_id] = series
        net = sums if weight == 1 else weighted(sums, taken, weight)
        self._net(series_id, bucket, {**net, PAIRS: float(taken)}, sign)
        if series.counted is not None:
            counted = series.counted
            self._grow(series_id, {name: value for name, value in sums.items() if name.startswith(counted)}, sign, first=first)

    def _grow(self, series_id: int, sums: Sums, sign: int, *, first: bool) -> None:
        """Writes into the ledgers that only grow."""
        if sign < 0:
            self._add(series_id, RETRACTED, sums)
            return
        self._add(series_id, EVER, sums)
        if not first:
            self._add(series_id, REAPPLIED, sums)

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
