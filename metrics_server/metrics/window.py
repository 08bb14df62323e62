"""Time: buckets, windows and durations. The only module that divides time.

Net sums live in buckets by prediction time: minutes while they are fresh, quarters of an hour for a week, then days.
Each width divides the next, so a roll-up only adds. A window reads whole buckets from its far edge on, with the edge
aligned to the width valid there; it therefore covers its length plus less than one such width, and gives the same
answer before and after a roll-up.

The buckets of a series may be split at moments from which on its sums are to be told for ever, such as the first
minute of a canary. A roll-up then leaves two buckets of the wider width, which begin at its multiple and at the split.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from metrics_server.errors import BadConfiguration

MINUTE = 60
QUARTER = 15 * MINUTE
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# How long each width is kept, finest first; the last one is kept for the history.
LEVELS = ((MINUTE, 6 * HOUR), (QUARTER, 8 * DAY))
COARSEST = DAY

# A prediction time further ahead than this is a broken clock, and is taken as "now".
FUTURE_TOLERANCE = 5 * MINUTE


class Bucket(NamedTuple):
    """A stretch of prediction time, or with width <= 0 one for all time, such as that of cumulative sums.

    It ends at a multiple of its width, and begins at one, or at a split.
    """

    width: int
    start: int

    @property
    def end(self) -> int:
        """The second with which the next one begins, at the latest."""
        return floor(self.start, self.width) + self.width


CUMULATIVE = Bucket(0, 0)  # what was applied, ever
CUMULATIVE_RETRACTED = Bucket(-1, 0)  # what was taken back by corrections
CUMULATIVE_REAPPLIED = Bucket(
    -2, 0
)  # the part of EVER that replaced something: EVER minus REAPPLIED are the first truths
USAGE = Bucket(-3, 0)  # what is kept for pairing, counted; of no series
CUMULATIVE_BUCKETS = (CUMULATIVE, CUMULATIVE_RETRACTED, CUMULATIVE_REAPPLIED, USAGE)

_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}


def seconds_of(duration: str) -> int:
    """Returns the seconds in a duration such as 90s, 15m, 1h or 35d.

    Raises:
        BadConfiguration: it is no positive number with one of these units.
    """
    match = _DURATION.fullmatch(duration.strip())
    if not match or not int(match[1]):
        raise BadConfiguration(
            f"{duration!r} is not a duration: want a positive number and s, m, h or d, such as 90s or 35d"
        )
    return int(match[1]) * _UNITS[match[2]]


def floor(at: float, width: int) -> int:
    """The latest multiple of width not after `at`."""
    return int(at // width) * width


def ceiling(at: float, width: int) -> int:
    """The earliest multiple of width not before `at`."""
    return -floor(-at, width)


def bucket_start(at: float, width: int, splits: Sequence[int] = ()) -> int:
    """The start of the bucket of this width that `at` belongs to, when buckets are split at these seconds, in order.

    >>> bucket_start(3700, HOUR), bucket_start(3700, HOUR, [3660]), bucket_start(3650, HOUR, [3660])
    (3600, 3660, 3600)
    """
    start = floor(at, width)
    before = bisect_right(splits, at)
    return max(start, splits[before - 1]) if before else start


def bucket_of(at: float, now: float, history: int) -> Bucket | None:
    """Tells where a prediction made at `at` is kept at the time `now`, unless buckets are split; None when it is older
    than the history.
    """
    if floor(at, COARSEST) < oldest_start(now, history):
        return None
    coarser = (*(width for width, _ in LEVELS[1:]), COARSEST)
    for (width, kept), outer in zip(LEVELS, coarser, strict=True):
        if floor(at, outer) + outer > now - kept:
            return Bucket(width, floor(at, width))
    return Bucket(COARSEST, floor(at, COARSEST))


def boundary_before(at: float, now: float) -> int:
    """Tells where the bucket of `at` begins, whatever is rolled up at the time `now`.

    >>> boundary_before(DAY + 1000, now=DAY + HOUR) - DAY, boundary_before(DAY + 1000, now=2 * DAY) - DAY
    (960, 900)
    """
    bucket = bucket_of(at, now, history=int(now))
    return floor(at, COARSEST) if bucket is None else bucket.start


def roll_ups(now: float) -> list[tuple[int, int, int]]:
    """Tells what to fold at the time `now`: (fine width, coarse width, fold buckets that start before this second)."""
    coarser = (*(width for width, _ in LEVELS[1:]), COARSEST)
    return [(width, outer, floor(now - kept, outer)) for (width, kept), outer in zip(LEVELS, coarser, strict=True)]


def oldest_start(now: float, history: int) -> int:
    """Returns the second from which on buckets of the coarsest width are within a history of so many seconds."""
    return floor(now - history, COARSEST)


def width_at(age: int) -> int:
    """The width of the buckets that are `age` seconds old."""
    return next((width for width, kept in LEVELS if age <= kept), COARSEST)


def edge_of(length: int, now: float) -> int:
    """The second from which on buckets belong to a window of this length that ends now."""
    return floor(now - length, width_at(length))


def check_window(name: str, history: int) -> int:
    """Returns the length in seconds of a window given as a duration.

    Raises:
        BadConfiguration: it is longer than the history, in seconds, or no multiple of the width of its oldest buckets,
            so that its sums could not be kept exactly.
    """
    length = seconds_of(name)
    width = width_at(length)
    if length % width:
        raise BadConfiguration(f"--windows: {name} is no multiple of {width} s, the width of its oldest buckets")
    if length > history:
        raise BadConfiguration(f"--windows: {name} is longer than --history ({history} s)")
    return length
