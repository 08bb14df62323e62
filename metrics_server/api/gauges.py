"""What is judged of series, as gauges: verdicts and objectives, which change without the sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import UNSET

from metrics_server.api.schema import CanaryVerdict
from metrics_server.api.verdict import KeptVerdicts
from metrics_server.metrics.sequential.verdict import Verdict
from metrics_server.series.families import series_labels
from metrics_server.series.objective import ObjectiveState
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels


class Gauge(NamedTuple):
    """A gauge with all its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


def verdict_gauges(kept: KeptVerdicts) -> Iterator[Gauge]:
    """Yields the verdicts of all predictors that are compared."""
    for labels, verdict in kept.current():
        yield from _of_verdict(labels, verdict)


def _of_verdict(labels: Labels, one: CanaryVerdict) -> Iterator[Gauge]:
    of_pair = {**series_labels(labels), "baseline": one.baseline}
    for verdict in Verdict:
        yield Gauge("model_canary_verdict", {**of_pair, "verdict": verdict}, float(verdict == one.verdict))
    if one.metric is not None:
        for end, value in (("", one.difference), ("_lower", one.lower), ("_upper", one.upper)):
            if value is not UNSET:
                yield Gauge(f"model_canary_difference{end}", {**of_pair, "metric": one.metric}, value)


def objective_gauges(
    registry: SeriesRegistry, objectives_of: Callable[[int], Sequence[ObjectiveState]]
) -> Iterator[Gauge]:
    """Yields how the objectives of all series stand."""
    for series in registry.current():
        for state in objectives_of(series.id):
            yield from _of_objective(series.labels, state)


def _of_objective(labels: Labels, state: ObjectiveState) -> Iterator[Gauge]:
    of_metric = {**series_labels(labels), "metric": state.objective.metric}
    yield Gauge("model_objective", of_metric, state.objective.level)
    yield Gauge("model_degraded", of_metric, float(state.is_missed))
    if math.isfinite(state.evidence):
        yield Gauge("model_degradation_evidence", of_metric, state.evidence)
    if state.since is not None:
        yield Gauge("model_degraded_since_timestamp_seconds", of_metric, state.since)
