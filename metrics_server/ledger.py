"""From the moves of a group of events to one change of the store: the book that pairing writes into.

Pairs of one series and bucket are collected and given to the metric model in one call, because a call costs about 30 µs
whatever it holds. Two clocks: what is net goes to the bucket of the prediction's time, what only grows to the ledgers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from metrics_server import output
from metrics_server.errors import Rejected
from metrics_server.model import MetricModel
from metrics_server.pairing import MATCHED, Applied, Reward, Said
from metrics_server.series import Catalog, Labels, Series
from metrics_server.store.interface import Change
from metrics_server.sums import Sums, add_into, component
from metrics_server.task import TASK_MISMATCH, UNSCORABLE, Resolved, Value, array_of, kind_of
from metrics_server.window import EVER, MINUTE, REAPPLIED, RETRACTED, Bucket, bucket_of

logger = logging.getLogger(__name__)

# Components that the server itself keeps beside those of the metric model.
PAIRS = "server/pairs"  # bucket: labelled predictions
LOGGED = "server/logged"  # bucket: rows of the request log
PREDICTIONS = "server/predictions"  # ever: rows of the request log
REWARDS = "server/rewards"  # ever and bucket: rewards given
REWARD_SUM = "server/reward_sum"  # bucket
LABELS = component("server/labels", "")  # ever, by status
PREDICTED = component("server/predicted", "")  # ever, by class

TOO_OLD = "too_old"
NOWHERE = 0  # the id of no series

_Target = tuple[int, "Bucket | None", int, bool]  # series, bucket, sign, whether it is the first of its prediction


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

    def admit(self, labels: Labels) -> Series:
        """The series of these labels, made if need be; raises `Rejected` when there are too many."""
        return self._catalog.admit(labels, self._now, self._change.series)

    def _admitted(self, labels: Labels) -> Series | None:
        """The series of a prediction that is known already; None when it left as idle and its place is taken."""
        try:
            return self.admit(labels)
        except Rejected:
            return None

    def _has(self, applied: Applied) -> bool:
        """Whether the series that this was put into is still there."""
        series = self._catalog.get(applied.series)
        return series is not None and series.created_at == applied.born

    def resolve(self, labels: Labels, truth: Value, prediction: Value) -> tuple[int, float, Resolved]:
        if (series := self._admitted(labels)) is None:
            return NOWHERE, 0.0, UNSCORABLE
        return series.id, series.created_at, series.resolve(truth, prediction, self._change.claims)

    def apply_pair(self, applied: Applied, *, first: bool) -> None:
        self._post(applied, 1, first=first)

    def take_pair(self, applied: Applied) -> None:
        self._post(applied, -1, first=False)

    def _post(self, applied: Applied, sign: int, *, first: bool) -> None:
        if not self._has(applied):
            return
        bucket = self._bucket(applied.at)
        self._pairs.setdefault((applied.series, bucket, sign, first), []).append((applied.y_true, applied.y_pred))
        self._net(applied.series, bucket, {PAIRS: 1.0}, sign)

    def apply_row(self, said: Said, *, first: bool) -> Applied:
        numeric = isinstance(said.value, (int, float)) and not isinstance(said.value, bool)
        value = said.value if numeric else None
        if (series := self._admitted(said.labels)) is None:
            return Applied(NOWHERE, 0.0, said.at, None, value)
        if first:
            self._count(series.id, PREDICTIONS)
            if label := series.predicted_class(said.value, self._change.claims):
                self._count(series.id, PREDICTED + label)
        applied = Applied(series.id, series.created_at, said.at, None, value)
        self._row(applied, 1)
        return applied

    def take_row(self, applied: Applied) -> None:
        self._row(applied, -1)

    def _row(self, applied: Applied, sign: int) -> None:
        if not self._has(applied):
            return
        value = applied.y_pred
        sums = output.increments(float(value)) if isinstance(value, (int, float)) else {}
        self._net(applied.series, self._bucket(applied.at), {LOGGED: 1.0, **sums}, sign)

    def apply_reward(self, reward: Reward, labels: Labels, at: float, *, first: bool) -> Applied:
        if (series := self._admitted(labels)) is None:
            return Applied(NOWHERE, 0.0, at, None, reward.value)
        if first:
            self._count(series.id, REWARDS)
        applied = Applied(series.id, series.created_at, at, None, reward.value)
        self._reward(applied, 1)
        return applied

    def take_reward(self, applied: Applied) -> None:
        self._reward(applied, -1)

    def _reward(self, applied: Applied, sign: int) -> None:
        if self._has(applied) and isinstance(applied.y_pred, (int, float)):
            self._net(applied.series, self._bucket(applied.at), {REWARDS: 1.0, REWARD_SUM: float(applied.y_pred)}, sign)

    def status(self, labels: Labels, status: str, at: float) -> None:
        if (series := self._admitted(labels)) is None:
            return
        if status == MATCHED and self._bucket(at) is None:
            status = TOO_OLD
        self._count(series.id, LABELS + status)

    def change(self) -> Change:
        """The change for everything collected; the caller adds the records."""
        for (series_id, bucket, sign, first), pairs in self._pairs.items():
            series = self._catalog.get(series_id)
            if series is not None and series.model is not None:
                sums, refused = self._increments(series, series.model, pairs)
                if refused:
                    self._refuse(series_id, bucket, sign, refused, first=first)
                self._net(series_id, bucket, sums, sign)
                if series.is_counting:
                    self._grow(series_id, sums, sign, first=first)
        self._change.sums = {target: sums for target, sums in self._sums.items() if sums}
        return self._change

    def _grow(self, series_id: int, sums: Sums, sign: int, *, first: bool) -> None:
        """Writes into the ledgers that only grow."""
        if sign < 0:
            self._add(series_id, RETRACTED, sums)
            return
        self._add(series_id, EVER, sums)
        if not first:
            self._add(series_id, REAPPLIED, sums)

    def _refuse(self, series_id: int, bucket: Bucket | None, sign: int, count: int, *, first: bool) -> None:
        """Takes out of the server's own counts the pairs that the model would not take."""
        self._net(series_id, bucket, {PAIRS: float(count)}, -sign)
        if sign > 0:
            self._add(series_id, EVER, {LABELS + TASK_MISMATCH: float(count)})
            if first and bucket is not None:
                self._add(series_id, EVER, {LABELS + MATCHED: float(count)}, -1)  # noted in this very group

    def _increments(self, series: Series, model: MetricModel, pairs: list[tuple[Value, Value]]) -> tuple[Sums, int]:
        """The model's increments of these pairs, called once for each combination of kinds, and how many it refused."""
        result: dict[str, float] = {}
        refused = 0
        kinds: dict[tuple[int, int], list[tuple[Value, Value]]] = {}
        for pair in pairs:
            kinds.setdefault((kind_of(pair[0]), kind_of(pair[1])), []).append(pair)
        for rows in kinds.values():
            try:
                add_into(result, _call(model, rows))
            except Exception:  # noqa: BLE001 - a user's model may raise anything; its rows are counted, the others must not suffer
                refused += self._one_by_one(series, model, rows, result)
        return result, refused

    def _one_by_one(self, series: Series, model: MetricModel, rows: list[tuple[Value, Value]], result: dict[str, float]) -> int:
        """Adds what the model can take. It is pure, so a row it refused is refused again when taken back."""
        refused = 0
        for row in rows:
            try:
                add_into(result, _call(model, [row]))
            except Exception as error:  # noqa: BLE001 - the same
                refused += 1
                logger.warning("%s of %s refused a pair: %s", type(model).__name__, "/".join(series.labels), type(error).__name__)
        return refused

    def _bucket(self, at: float) -> Bucket | None:
        """The bucket of a prediction time; asked several times for each event, nearly always for the same minute."""
        minute = at // MINUTE
        if minute not in self._buckets:
            self._buckets[minute] = bucket_of(at, self._now, self._history)
        return self._buckets[minute]

    def _count(self, series_id: int, name: str) -> None:
        self._add(series_id, EVER, {name: 1.0})

    def _net(self, series_id: int, bucket: Bucket | None, sums: Sums, sign: int) -> None:
        if bucket is not None:  # older than the history: counted, but in no window
            self._add(series_id, bucket, sums, sign)

    def _add(self, series_id: int, bucket: Bucket, sums: Sums, sign: int = 1) -> None:
        target = self._sums.get((series_id, bucket))
        if target is None:
            target = self._sums[series_id, bucket] = {}
        add_into(target, sums, sign)


def _call(model: MetricModel, rows: Iterable[tuple[Value, Value]]) -> Sums:
    truths, predictions = zip(*rows, strict=True)
    sums = model.increments(array_of(truths), array_of(predictions))
    checked = {str(name): float(value) for name, value in sums.items()}
    if not all(map(math.isfinite, checked.values())):
        raise ValueError("a sum is not finite")  # it would erase what it is added to
    return checked
