"""History: the numbers of a series step by step, from the time buckets that are kept.

No bucket lies in two steps. So a step starts at a multiple of its length since the epoch, and its length is a multiple
of the width that the buckets at its beginning have: a minute, later a quarter of an hour, later a day. Then the
response is the same before and after a roll-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from metrics_server.errors import BadRequest
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import COARSEST, DAY, HOUR, MINUTE, bucket_of, floor, oldest_start
from metrics_server.store.interface import StepSums

MAX_POINTS = 2000
FEW_POINTS = 100  # at most, with a step that the server chooses
MINUTES, HOURS, DAYS = (1, 2, 5, 10, 15, 30), (1, 2, 3, 6, 12), (1, 2, 7, 30)
STEPS = (*(n * MINUTE for n in MINUTES), *(n * HOUR for n in HOURS), *(n * DAY for n in DAYS))


class Steps(NamedTuple):
    """The steps of a history: since <= k * step < until; both ends are multiples of the step."""

    since: int
    until: int
    step: int

    @property
    def number(self) -> int:
        """The number of steps."""
        return (self.until - self.since) // self.step


class Step(NamedTuple):
    """One step that holds anything, with its sums."""

    since: int
    until: int
    sums: Sums


def steps_of(
    since: float | None, until: float | None, step: int | None, now: float, history: int, *, few: int = FEW_POINTS
) -> Steps:
    """Chooses the steps that cover the time from `since` to `until`, without what is older than the history.

    Without a `step` the shortest of `STEPS` is chosen that leads to at most `few`.

    Raises:
        BadRequest: there would be too many steps, or the stored buckets are too wide for the step.
    """
    end = now if until is None else until
    begin = end - DAY if since is None else since
    if begin >= end:
        raise BadRequest("from: want a time before `to`")
    begin = max(begin, oldest_start(now, history))
    end = max(end, begin)
    if step is None:
        fitting = (s for s in STEPS if _fits(s, begin, now, history) and _covering(begin, end, s).number <= few)
        step = next(fitting, STEPS[-1])
    if not _fits(step, begin, now, history):
        raise _too_fine(step, _width(begin, now, history))
    steps = _covering(begin, end, step)
    if steps.number > MAX_POINTS:
        raise BadRequest(
            f"step: {steps.number} steps are more than {MAX_POINTS}; "
            "want longer ones, or less time between `from` and `to`"
        )
    return steps


def _covering(begin: float, end: float, step: int) -> Steps:
    return Steps(floor(begin, step), -floor(-end, step), step)


def _width(at: float, now: float, history: int) -> int:
    """Returns the width of the stored bucket of a time."""
    bucket = bucket_of(at, now, history)
    return COARSEST if bucket is None else bucket.width


def _fits(step: int, begin: float, now: float, history: int) -> bool:
    """Returns whether no bucket can lie in two steps.

    The first bucket decides: later ones are no wider, and all widths divide each other.
    """
    return step % _width(floor(begin, step), now, history) == 0


def _too_fine(step: int, finest: int) -> BadRequest:
    name = {MINUTE: "1m", COARSEST: "1d"}.get(finest, f"{finest // MINUTE}m")
    return BadRequest(
        f"step: {step} s does not fit the buckets that are kept; "
        f"the finest step from there is {name}, others are multiples of it"
    )


def checked_steps(stored: Iterable[StepSums], steps: Steps) -> Iterator[Step]:
    """Yields the steps that hold anything, in the order of time, from the step sums of a store.

    Raises:
        BadRequest: a bucket is wider than a step, since it was rolled up after the steps were chosen.
    """
    for start, width, sums in stored:
        if steps.step % width:
            raise _too_fine(steps.step, width)
        yield Step(start, start + steps.step, sums)
