"""Distributions of durations, as sums: how many fell into each bucket of a Prometheus histogram, and how long they were
together.

Sums:
    <name> / le / i: durations up to the i-th bound and longer than the one before; the last is for those beyond all
    bounds. <name> / seconds: their sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection

from metrics_server.metrics.sums import Sums, component
from metrics_server.metrics.window import DAY, HOUR, MINUTE

DELAY, LATENCY = "server/delay", "server/latency"

BOUNDS: dict[str, tuple[float, ...]] = {
    DELAY: (1, 10, MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY),
    LATENCY: (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
}


# Seldon's wrapper has the same ends, and fifty bounds between them.
TIMER_BOUNDS = BOUNDS[LATENCY]


def bounds_of(name: str) -> tuple[float, ...]:
    """The bounds of a distribution, in seconds: the server's own by name, else those of custom timers."""
    return BOUNDS.get(name, TIMER_BOUNDS)


def observed(name: str, durations: Collection[float]) -> Sums:
    r"""Returns the sums of these durations, which are in seconds and >= 0.

    >>> {name.replace("\x1f", " / "): value for name, value in observed(DELAY, [0.5, 5.0, 6.0]).items()}
    {'server/delay / seconds': 11.5, 'server/delay / le / 0': 1.0, 'server/delay / le / 1': 2.0}
    """
    bounds = bounds_of(name)
    counts = Counter(bisect_left(bounds, seconds) for seconds in durations)
    return {component(name, "seconds"): sum(durations)} | {
        component(name, "le", str(index)): float(n) for index, n in counts.items()
    }


def cumulated(name: str, sums: Sums) -> tuple[list[tuple[str, float]], float] | None:
    """Returns the buckets of a Prometheus histogram, (bound in seconds, durations up to it) for every bound and +Inf,
    and the sum of the durations in seconds; None before the first.
    """
    bounds = bounds_of(name)
    counts = [sums.get(component(name, "le", str(index)), 0.0) for index in range(len(bounds) + 1)]
    if not any(counts):
        return None
    running, buckets = 0.0, []
    for bound, count in zip((*(repr(float(bound)) for bound in bounds), "+Inf"), counts, strict=True):
        running += count
        buckets.append((bound, running))
    return buckets, sums.get(component(name, "seconds"), 0.0)


EXPECTED = 0.95  # of the labels that come


def label_wait(sums: Sums) -> float | None:
    """Returns the age, in seconds, by which nearly all labels have come that come, or the greatest bound; None before
    the first label.
    """
    histogram = cumulated(DELAY, sums)
    if histogram is None:
        return None
    *bounded, (_, total) = histogram[0]
    reached = (bound for bound, count in bounded if count >= EXPECTED * total)
    return float(next(reached, bounded[-1][0]))
