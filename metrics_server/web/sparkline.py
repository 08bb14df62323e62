"""A trend as a picture of the height of a line of text: SVG, with its band of uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from metrics_server.api.responses import interval_of
from metrics_server.api.schema import History, MetricValue

WIDTH, HEIGHT, MARGIN = 120.0, 28.0, 2.0
LEAST_SPAN = 0.05  # of the larger end: a change of a few thousandths must not look like a fall
COLOUR = "#3f86d2"  # 3 : 1 or more on the light and the dark page


class Ends(NamedTuple):
    """A value with the ends of its band."""

    value: float
    lower: float
    upper: float


_Spot = tuple[float, Ends]


def sparkline(history: History) -> bytes:
    """Draws the first value of each step by prediction time; an empty picture where there is none."""
    runs = list(_runs(history))
    ends = [end for run in runs for _, end in run]
    shapes = "".join(_shapes(runs, *_scale(ends))) if ends else ""
    size = f'width="{WIDTH:.0f}" height="{HEIGHT:.0f}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{shapes}</svg>'.encode()


def _runs(history: History) -> Iterator[list[_Spot]]:
    """Groups the steps that follow each other, in picture coordinates of time: no line may bridge a gap."""
    spots = [
        (int((point.since - history.since) // history.step), _ends(point.values[0]))
        for point in history.points
        if point.values
    ]
    steps = max(1.0, (history.until - history.since) / history.step)
    for _, run in groupby(enumerate(spots), key=lambda numbered: numbered[1][0] - numbered[0]):
        yield [(MARGIN + (step + 0.5) / steps * (WIDTH - 2 * MARGIN), ends) for _, (step, ends) in run]


def _ends(value: MetricValue) -> Ends:
    return Ends(value.value, *(interval_of(value) or (value.value, value.value)))


def _scale(ends: Sequence[Ends]) -> tuple[float, float]:
    """Returns the values at the bottom and at the top: the line fills the picture; its band may be cut off."""
    low, high = min(end.value for end in ends), max(end.value for end in ends)
    span = max(high - low, LEAST_SPAN * max(abs(low), abs(high)), 1e-12)
    middle = (low + high) / 2
    return middle - span / 2, middle + span / 2


def _shapes(runs: Iterable[Sequence[_Spot]], low: float, high: float) -> Iterator[str]:
    def y(value: float) -> float:
        share = min(max((value - low) / (high - low), -0.2), 1.2)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    def points(spots: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{y(value):.1f}" for x, value in spots)

    for run in runs:
        band = [(x, ends.upper) for x, ends in run] + [(x, ends.lower) for x, ends in reversed(run)]
        yield f'<polygon points="{points(band)}" fill="{COLOUR}" fill-opacity="0.2"/>'
        line = [(x, ends.value) for x, ends in run]
        if len(line) == 1:
            yield f'<circle cx="{line[0][0]:.1f}" cy="{y(line[0][1]):.1f}" r="1.5" fill="{COLOUR}"/>'
        else:
            stroke = f'stroke="{COLOUR}" stroke-width="1.5" stroke-linejoin="round"'
            yield f'<polyline points="{points(line)}" fill="none" {stroke}/>'
