"""Samples of the server itself over the last hour: rates and times between two readings of its counters.

Prometheus does this better and for longer; this is for those who have none at hand.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from metrics_server.metrics.labels import Outcome
from metrics_server.telemetry import Telemetry
from metrics_server.web.chart import SelfSample

EVERY_SECONDS = 10.0
MAX_SAMPLES = 360  # samples: an hour

Counters = Mapping[tuple[str, tuple[str, ...]], float]  # by name and label values


def counters_of(telemetry: Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    """Returns the current value of every sample of the telemetry."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class SelfSampler:
    """Collects samples. `sample` is called every `EVERY_SECONDS` in the event loop, `samples` from any thread."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float] = time.time) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self.started_at = clock()
        self._last: tuple[float, Counters] = (self.started_at, counters_of(telemetry))
        self._samples: deque[SelfSample] = deque(maxlen=MAX_SAMPLES)

    def samples(self) -> list[SelfSample]:
        """Returns the samples, the oldest first."""
        return list(self._samples)

    def sample(self) -> None:
        """Reads the counters, and adds a sample of what happened since the last reading."""
        (before, old), now = self._last, self._clock()
        if now <= before:  # the clock was set back
            self._last = (now, old)
            return
        new = counters_of(self._telemetry)
        self._last = (now, new)
        self._samples.append(_sample(now, now - before, old, new))


def _sample(at: float, seconds: float, old: Counters, new: Counters) -> SelfSample:
    def grown(name: str, *labels: str) -> float:
        return new.get((name, labels), 0.0) - old.get((name, labels), 0.0)

    def events(outcome: str) -> float:
        return sum(
            grown(name, *labels)
            for name, labels in new
            if name == "metrics_server_events_total" and outcome == labels[1]
        )

    commits = grown("metrics_server_commit_seconds_count")
    return SelfSample(
        at=at,
        events={outcome: events(outcome) / seconds for outcome in Outcome},
        commits=commits / seconds,
        commit_seconds=grown("metrics_server_commit_seconds_sum") / commits if commits else None,
        commit_p99=_quantile(0.99, _grown_buckets(old, new)) if commits else None,
        queue=new["metrics_server_queue_events", ()],
        pending=new["metrics_server_pending_predictions", ()] + new["metrics_server_pending_truths", ()],
    )


def _grown_buckets(old: Counters, new: Counters) -> list[tuple[float, float]]:
    """Returns (upper bound, how many more commits took up to that), ascending."""
    return sorted(
        (float(labels[0]), new[name, labels] - old.get((name, labels), 0.0))
        for name, labels in new
        if name == "metrics_server_commit_seconds_bucket"
    )


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    """Computes a quantile as Prometheus' histogram_quantile: even within a bucket, and at most the last bound."""
    wanted, below, lower = share * buckets[-1][1], 0.0, 0.0
    for bound, reached in buckets[:-1]:
        if reached >= wanted:
            return lower + (bound - lower) * (wanted - below) / (reached - below) if reached > below else bound
        below, lower = reached, bound
    return lower
