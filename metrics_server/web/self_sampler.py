"""The server's own pulse over the last hour: rates and times between looks at its counters.

Prometheus does this better and for longer; this is for who has none at hand.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from metrics_server.metrics.labels import Outcome
from metrics_server.telemetry import Telemetry
from metrics_server.web.chart import SelfSample

EVERY_SECONDS = 10.0
KEPT = 360  # beats: an hour

Samples = Mapping[tuple[str, tuple[str, ...]], float]  # by name and label values


def samples_of(telemetry: Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    """Everything the telemetry says now."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class SelfSampler:
    """Collects beats. `beat` is called every `EVERY_SECONDS` in the event loop; `beats` from any thread."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float] = time.time) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self.started_at = clock()
        self._last: tuple[float, Samples] = (self.started_at, samples_of(telemetry))
        self._beats: deque[SelfSample] = deque(maxlen=KEPT)

    def samples(self) -> list[SelfSample]:
        """The oldest first."""
        return list(self._beats)

    def sample(self) -> None:
        """Looks at the counters and keeps what happened since the last look."""
        (before, old), now = self._last, self._clock()
        if now <= before:  # the clock was set back
            self._last = (now, old)
            return
        new = samples_of(self._telemetry)
        self._last = (now, new)
        self._beats.append(_beat(now, now - before, old, new))


def _beat(at: float, seconds: float, old: Samples, new: Samples) -> SelfSample:
    def grown(name: str, *labels: str) -> float:
        return new.get((name, labels), 0.0) - old.get((name, labels), 0.0)

    def events(outcome: str) -> float:
        return sum(
            new[key] - old.get(key, 0.0)
            for key in new
            if key[0] == "metrics_server_events_total" and key[1][1] == outcome
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


def _grown_buckets(old: Samples, new: Samples) -> list[tuple[float, float]]:
    """(upper bound, how many more came up to it) of the times of commits."""
    buckets = (
        (float(labels[0]), key)
        for key in new
        if key[0] == "metrics_server_commit_seconds_bucket"
        for labels in (key[1],)
    )
    return sorted((bound, new[key] - old.get(key, 0.0)) for bound, key in buckets)


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    """As Prometheus' histogram_quantile: even within a bucket; beyond the last bound, that."""
    wanted, below, lower = share * buckets[-1][1], 0.0, 0.0
    for bound, reached in buckets[:-1]:
        if reached >= wanted:
            return lower + (bound - lower) * (wanted - below) / (reached - below) if reached > below else bound
        below, lower = reached, bound
    return lower
