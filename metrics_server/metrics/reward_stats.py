"""Statistics of rewards, which Seldon's feedback may carry: two pure functions, like those of a metric model.

Sums:
    server/rewards: rewards given.
    server/reward_sum, server/reward_square: their sum, and that of their squares.
    server/reward / v: those that are v, for each whole number v from -10 to 10 (thumbs, stars, a net promoter score);
        server/reward /
        other: the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metrics_server.metrics.confidence import mean_interval, wilson_interval
from metrics_server.metrics.model import Sample
from metrics_server.metrics.sums import Sums, component

LARGEST_COUNTED = 10

REWARDS = "server/rewards"
SUM = "server/reward_sum"
SQUARE = "server/reward_square"
VALUE = component("server/reward", "")
OTHER = "other"


def increments(value: float) -> Sums:
    """Returns the sums of one reward, which is a finite number in the unit that the sender gives it."""
    return {REWARDS: 1.0, SUM: value, SQUARE: value * value, component_of(value): 1.0}


def component_of(value: float) -> str:
    """The component that counts rewards of this value."""
    return VALUE + (str(int(value)) if abs(value) <= LARGEST_COUNTED and value == int(value) else OTHER)


def counts(sums: Sums) -> Iterator[tuple[str, float]]:
    """Yields each counted value, a whole number or "other", with the number of its rewards."""
    return ((name[len(VALUE) :], count) for name, count in sums.items() if name.startswith(VALUE))


def compute(sums: Sums) -> Iterable[Sample]:
    """Yields the mean of the rewards, in their unit, and the share of each value, from 0 to 1; nothing before the first
    reward. Intervals: Student's of the mean, Wilson's of a share.
    """
    if (rewards := sums.get(REWARDS, 0.0)) > 0:
        total = sums.get(SUM, 0.0)
        yield Sample("reward_mean", {}, total / rewards, mean_interval(total, sums.get(SQUARE, 0.0), rewards), rewards)
        for value, count in counts(sums):
            yield Sample("reward_ratio", {"value": value}, count / rewards, wilson_interval(count, rewards), rewards)
