"""Numbers, times and names as the page writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

UNNAMED = "–"  # noqa: RUF001 - a dash, for what has no name or no value
_TASKS = {"one_hot": "multiclass, with scores", "feedback": "human feedback"}
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def number(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """Writes a number with the digits that are meaningful: two of its interval's width, or three of its own."""
    if value is None:
        return UNNAMED
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3g}"
    width = abs(value) if interval is None else interval[1] - interval[0]
    if width <= 0 or (float(value).is_integer() and interval is None):
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
    digits = (2 if interval is None else 1) - math.floor(math.log10(width))
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def count(value: float) -> str:
    """Writes a count; of weighted pairs it may have a fraction."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def percent(share: float | None) -> str:
    """Writes a share in percent, never rounded to none or all of it: "> 99.9 %"."""
    if share is None:
        return UNNAMED
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share * 100:.{0 if share in (0, 1) else 1}f} %"


def duration(seconds: float) -> str:
    """Writes a length of time in its largest unit: "2.5 h"."""
    for length, unit in _UNITS:
        if seconds >= length:
            decimals = 0 if seconds >= 10 * length or length == 1 else 1
            return f"{seconds / length:.{decimals}f} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds > 0 else "0 s"


def ago(at: float | None, now: float) -> str:
    """Writes how long ago something was, to the second below a minute: "12 s ago"."""
    if at is None:
        return UNNAMED
    seconds = max(0.0, now - at)
    return "now" if seconds < 1 else f"{int(seconds)} s ago" if seconds < 60 else f"{duration(seconds)} ago"


def moment(at: float) -> str:
    """Writes a time in UTC, to the second."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def class_title(label: str, names: Sequence[str]) -> str:
    """Writes the label of a class, with its name where one is configured: "2 virginica"."""
    if label.isdecimal() and len(label) < 9 and int(label) < len(names):
        return f"{label} {names[int(label)]}"
    return label


def task_title(task: str | None) -> str:
    """Writes the task of a series in words, or a dash before the first pair decides it."""
    return UNNAMED if task is None else _TASKS.get(task, task)
