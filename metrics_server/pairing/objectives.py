"""Watches objectives: each hour enters the evidence once, when its labels have come, and is frozen in the store."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import msgspec

from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.duration_histogram import label_wait
from metrics_server.metrics.sequential.detector import SPAN_HOURS, share_evidence
from metrics_server.metrics.sequential.estimate import SequentialEstimate, ShareEstimate, better_of
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import CUMULATIVE, HOUR, edge_of, floor
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import PREFIX
from metrics_server.series.objective import FrozenEvidence, Objective, ObjectiveState, state_of
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, Record, Store, Write

logger = logging.getLogger(__name__)

LONGEST_WAIT = 7 * 24 * HOUR  # for labels: a day later the hours are rolled up into days
EVIDENCE_QUEUE = 2  # of the store's expiry queues
MOST_DELETED = 100  # at a look
KEPT_SECONDS = 2.0 * SPAN_HOURS * HOUR

_decode = msgspec.msgpack.Decoder(FrozenEvidence).decode
_encode = msgspec.msgpack.Encoder().encode


class _Watched(NamedTuple):
    series: Series
    objective: Objective


class Objectives:
    """The objectives of all series. The writer's thread looks; any thread may ask for the states."""

    def __init__(
        self,
        store: Store,
        registry: SeriesRegistry,
        totals: Totals,
        evaluator: Evaluator,
        objectives_of: Callable[[Labels], Sequence[Objective]],
    ) -> None:
        self._store = store
        self._registry = registry
        self._totals = totals
        self._evaluator = evaluator
        self._objectives_of = objectives_of
        self._states: Mapping[int, list[ObjectiveState]] = {}
        self._unwatchable: set[bytes] = set()

    def states_of(self, series_id: int) -> list[ObjectiveState]:
        """Returns how the objectives of a series stand, as of the last look."""
        return self._states.get(series_id, [])

    def look(self, now: float, *, has_upkeep: bool) -> None:
        """Takes in the hours whose labels have come, if the upkeep is this writer's; and what another has taken in.

        Raises:
            StoreUnavailable: hours that were not taken in are at a later look.
        """
        watched = self._watched()
        if not watched:
            self._states = {}
            return
        stored = self._store.load(list(watched))
        frozen = {key: self._current(one, stored.get(key), now) for key, one in watched.items()}
        if has_upkeep:
            self._take_in(watched, stored, frozen, now)
        states: dict[int, list[ObjectiveState]] = {}
        for key, one in watched.items():
            states.setdefault(one.series.id, []).append(state_of(one.objective, frozen[key]))
        self._states = states

    def _watched(self) -> dict[bytes, _Watched]:
        return {
            objective.key(series.id): _Watched(series, objective)
            for series in self._registry.parents()
            for objective in self._objectives_of(series.labels)
        }

    def _current(self, watched: _Watched, record: Record | None, now: float) -> FrozenEvidence:
        """Decodes what is stored; a new objective begins with this hour."""
        if record is not None:
            try:
                return _decode(record.value)
            except msgspec.MsgspecError:  # of a version that is not known: it begins anew
                logger.warning("The evidence about an objective of %s begins anew", "/".join(watched.series.labels))
        return FrozenEvidence(floor(now, HOUR))

    def _take_in(
        self,
        watched: Mapping[bytes, _Watched],
        stored: Mapping[bytes, Record],
        frozen: dict[bytes, FrozenEvidence],
        now: float,
    ) -> None:
        left = self._store.expired(now, MOST_DELETED, EVIDENCE_QUEUE)
        change = Change(deletes={key: record.version for key, record in left.items() if key not in watched})
        advanced = {}
        for key, one in watched.items():
            evidence = self._advanced(key, one, frozen[key], now)
            if evidence is not frozen[key] or key not in stored:
                version = stored[key].version if key in stored else 0
                advanced[key] = evidence
                change.records[key] = Write(version, _encode(evidence), now + KEPT_SECONDS, EVIDENCE_QUEUE)
        if (advanced or change.deletes) and self._store.commit(
            change
        ):  # else another writer was first: its evidence is read at the next look
            frozen.update(advanced)

    def _advanced(self, key: bytes, watched: _Watched, evidence: FrozenEvidence, now: float) -> FrozenEvidence:
        oldest = floor(now, HOUR) - SPAN_HOURS * HOUR + HOUR  # beyond it hours are rolled up into days
        if evidence.until < oldest:
            evidence = evidence.skipped_to(oldest)
        due = edge_of(self._wait(watched.series), now)
        while evidence.until + HOUR <= due:
            log_e = self._log_e(key, watched, evidence.until)
            if log_e is None:
                return evidence
            evidence = evidence.with_hour(log_e)
        return evidence

    def _wait(self, series: Series) -> int:
        """The age of an hour, in seconds since its end, at which its labels have come."""
        age = label_wait(self._totals.cumulative(CUMULATIVE, series.id))
        return min(math.ceil(age or 0.0), LONGEST_WAIT)

    def _log_e(self, key: bytes, watched: _Watched, start: int) -> tuple[float, ...] | None:
        """The evidence of one hour; None while the series has no model, or one that has no share of this name."""
        series, objective = watched
        if series.model is None:
            return None
        sums = self._sums(series, start)
        found = self._successes(watched, sums) if sums.get(PAIRS) else (0.0, 0.0)
        if found is None:
            self._warn_once(key, watched)
            return None
        total, count = found
        if self._better(watched) < 0:
            return tuple(map(float, share_evidence(count - total, count, 1 - objective.level)))
        return tuple(map(float, share_evidence(total, count, objective.level)))

    def _better(self, watched: _Watched) -> int:
        return better_of(watched.series.model, watched.objective.metric.removeprefix(PREFIX))

    def _successes(self, watched: _Watched, sums: Sums) -> tuple[float, float] | None:
        """The successes and trials of a share, or of the mean of values from 0 to 1; None if the value is neither."""
        estimate = self._estimate(watched, sums)
        if estimate is not None:
            return _successes(estimate) if self._better(watched) else None
        # Too few for an estimate, or never one of this value?
        *_, longest = self._totals.series_totals(watched.series.id).windows.values()
        return None if self._estimate(watched, longest) is None else (0.0, 0.0)

    def _estimate(self, watched: _Watched, sums: Sums) -> SequentialEstimate | None:
        return self._evaluator.estimate(watched.series, watched.objective.metric.removeprefix(PREFIX), sums)

    def _sums(self, series: Series, start: int) -> Sums:
        with closing(self._store.steps(series.id, start, start + HOUR, HOUR)) as steps:
            return next((step.sums for step in steps), {})

    def _warn_once(self, key: bytes, watched: _Watched) -> None:
        if key not in self._unwatchable:
            self._unwatchable.add(key)
            logger.warning(
                "The objective of %s for %s cannot be watched: its metric model has no such share, or mean of values"
                " from 0 to 1",
                watched.objective.metric,
                "/".join(watched.series.labels),
            )


def _successes(estimate: SequentialEstimate) -> tuple[float, float] | None:
    if isinstance(estimate, ShareEstimate):
        return estimate.successes, estimate.trials
    if estimate.bounds == (0.0, 1.0):
        return estimate.value * estimate.count, estimate.count
    return None
