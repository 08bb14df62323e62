"""Objectives: what a value of a series should be, and the evidence that it is not any more."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np

from metrics_server.metrics.sequential.detector import FALLS, SPAN_HOURS, evidence_of
from metrics_server.metrics.window import HOUR


class Objective(NamedTuple):
    """A value that is watched.

    Attributes:
        metric: its name, as on /v1/metrics.
        level: what a share should be at least; of an error, at most.
        false_alarms_a_year: how many are accepted while the objective is met.
    """

    metric: str
    level: float
    false_alarms_a_year: float

    def key(self, series_id: int) -> bytes:
        """The key of the record of the evidence about a series."""
        text = f"{series_id} {self.metric} {self.level!r}"
        return b"objective/" + blake2b(text.encode(), digest_size=16).digest()


class FrozenEvidence(msgspec.Struct, frozen=True, array_like=True):
    """The log e of hours that have entered, each for every fall; what is corrected later does not change them.

    Attributes:
        until: the end of the last hour that has entered, in Unix seconds.
        hours: how many have entered, ever.
        log_e: of the last of them, at most `SPAN_HOURS`.
    """

    until: int
    hours: int = 0
    log_e: tuple[tuple[float, ...], ...] = ()

    def with_hour(self, log_e: tuple[float, ...]) -> FrozenEvidence:
        """The evidence an hour later."""
        return FrozenEvidence(self.until + HOUR, self.hours + 1, (*self.log_e, log_e)[-SPAN_HOURS:])

    def skipped_to(self, until: int) -> FrozenEvidence:
        """The evidence without hours that can be read no more, of which nothing is said."""
        quiet = (0.0,) * len(FALLS)
        missed = (until - self.until) // HOUR
        return FrozenEvidence(until, self.hours, (*self.log_e, *[quiet] * min(missed, SPAN_HOURS))[-SPAN_HOURS:])


class ObjectiveState(NamedTuple):
    """How an objective stands.

    Attributes:
        evidence: log10 of the evidence against it, over the threshold; -inf before the first hour.
        since: when the evidence begins, in Unix seconds; None while there is none.
        hours: how many have entered.
    """

    objective: Objective
    evidence: float
    since: float | None
    hours: int

    @property
    def is_missed(self) -> bool:
        """Whether the evidence is enough for an alarm."""
        return self.evidence >= 0


def state_of(objective: Objective, frozen: FrozenEvidence) -> ObjectiveState:
    """Adds the evidence of hours up.

    >>> state_of(Objective("model_accuracy_ratio", 0.9, 0.1), FrozenEvidence(until=7200)).is_missed
    False
    """
    if not frozen.log_e:
        return ObjectiveState(objective, -math.inf, None, frozen.hours)
    found = evidence_of(np.array(frozen.log_e), objective.false_alarms_a_year)
    begun = frozen.until - (len(frozen.log_e) - found.since) * HOUR if found.since is not None else None
    return ObjectiveState(objective, found.log_over_threshold, begun, frozen.hours)
