"""History: the numbers of a series step by step, from the time buckets that are kept.

A step holds whole buckets. So it starts at a multiple of its length since the epoch, and its length is a multiple of
the width that the
buckets at its beginning have: a minute, later a quarter of an hour, later a day. Then the answer is the same before and
after a roll-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from metrics_server.errors import BadRequest
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import COARSEST, DAY, HOUR, MINUTE, bucket_of, floor, oldest_start
from metrics_server.store.interface import StepSums

MAX_POINTS = 2000
FEW_POINTS = 100  # what a step that nobody chose leads to at most
MINUTES, HOURS, DAYS = (1, 2, 5, 10, 15, 30), (1, 2, 3, 6, 12), (1, 2, 7, 30)
STEPS = (*(n * MINUTE for n in MINUTES), *(n * HOUR for n in HOURS), *(n * DAY for n in DAYS))


class Steps(NamedTuple):
    """The steps of a history: since <= k * step < until; both ends are multiples of the step."""

    since: int
    until: int
    step: int

    @property
    def number(self) -> int:
        """How many there are."""
        return (self.until - self.since) // self.step


class Step(NamedTuple):
    """One step that holds anything, and its sums."""

    since: int
    until: int
    sums: Sums


def steps_of(
    since: float | None, until: float | None, step: int | None, now: float, history: int, *, few: int = FEW_POINTS
) -> Steps:
    """The steps from `since` to `until`, whole ones; what is older than the history is left out. Without a step there
    are a few.

    Raises:
        Refusal: there would be too many, or the buckets that are kept are too wide for the step.
    """
    end = now if until is None else until
    begin = end - DAY if since is None else since
    if begin >= end:
        raise BadRequest("from: want a time before `to`")
    begin = max(begin, oldest_start(now, history))
    end = max(end, begin)
    if step is None:
        step = next(
            (s for s in STEPS if _fits(s, begin, now, history) and _whole(begin, end, s).number <= few), STEPS[-1]
        )
    if not _fits(step, begin, now, history):
        raise _too_fine(step, _width(begin, now, history))
    steps = _whole(begin, end, step)
    if steps.number > MAX_POINTS:
        raise BadRequest(
            f"step: {steps.number} steps are more than {MAX_POINTS}; want longer ones, or less time between `from` and `to`"
        )
    return steps


def _whole(begin: float, end: float, step: int) -> Steps:
    return Steps(floor(begin, step), -floor(-end, step), step)


def _width(at: float, now: float, history: int) -> int:
    """The width of the bucket that is kept of a time."""
    bucket = bucket_of(at, now, history)
    return COARSEST if bucket is None else bucket.width


def _fits(step: int, begin: float, now: float, history: int) -> bool:
    """Whether no bucket can lie in two steps: those that come later are no wider than the first, and all widths divide
    each other.
    """
    return step % _width(floor(begin, step), now, history) == 0


def _too_fine(step: int, finest: int) -> BadRequest:
    name = {MINUTE: "1m", COARSEST: "1d"}.get(finest, f"{finest // MINUTE}m")
    return BadRequest(
        f"step: {step} s does not fit the buckets that are kept; the finest step from there is {name}, others are multiples of it"
    )


def taken(stretches: Iterable[StepSums], steps: Steps) -> Iterator[Step]:
    """The steps that hold anything, in the order of time, of what a store has added up by them.

    Raises:
        Refusal: a bucket is wider than a step; it was rolled up since the steps were checked.
    """
    for start, width, sums in stretches:
        if steps.step % width:
            raise _too_fine(steps.step, width)
        yield Step(start, start + steps.step, sums)
