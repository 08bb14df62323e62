"""Charts of distributions: errors, times to the label, predicted classes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from metrics_server.api.responses import class_order, interval_of
from metrics_server.api.schema import LabelDelay, MetricValue, Table
from metrics_server.web import formatting
from metrics_server.web.chart.chart import Chart, columns_of, value_with_interval

MOST_BARS = 40
MOST_CLASSES = 20
TAIL = 0.01  # of the errors, at each end, may be drawn as one bar
_ROUND = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class Bin(NamedTuple):
    """A bin of errors, and how many pairs have such an error."""

    lower: float
    upper: float
    pairs: float


def error_distribution(rows: Table, unit: str = "") -> Chart | None:
    """Draws errors, prediction - truth, in bars of equal width of which one has 0 in its middle.

    The bins of the table are spread evenly over the bars that they lie in. The outermost bars also hold what lies
    beyond them, at most a hundredth of all at each end.
    """
    bins = [Bin(float(row["lower"]), float(row["upper"]), float(row["pairs"])) for row in rows]
    if not sum(bin_.pairs for bin_ in bins):
        return None
    measure = f" {unit}" if unit else ""
    columns = columns_of(_error_rows(bins, measure))
    headings = {"what": f"error{f' ({unit})' if unit else ''}", "pairs": "pairs"}
    summary = _error_summary(bins, measure)
    return Chart("error_distribution", "Errors: prediction - truth", summary, columns, headings, {"unit": unit})


def _error_rows(bins: Sequence[Bin], measure: str) -> list[dict[str, Any]]:
    """Spreads bins over bars; returns a row for each bar."""
    low, high = _quantile(bins, TAIL), _quantile(bins, 1 - TAIL)
    width = _width(low, high)
    first, last = _bar(low, width) - 1, _bar(high, width) + 1
    bars = dict.fromkeys(range(first, last + 1), 0.0)
    for bin_ in bins:
        for bar, pairs in _spread(bin_, width, first, last):
            bars[bar] += pairs
    total = sum(bin_.pairs for bin_ in bins)
    rows = []
    for bar, pairs in bars.items():
        left, right = (bar - 0.5) * width, (bar + 0.5) * width
        if bar == first:
            what = f"below {_edge(right)}"
        elif bar == last:
            what = f"{_edge(left)} and above"
        else:
            what = f"{_edge(left)} to {_edge(right)}"
        rows.append(
            {
                "left": left,
                "right": right,
                "pairs": pairs,
                "alpha": 1.0 if first < bar < last else 0.45,
                "what": f"{what}{measure}",
                "tooltip": f"{formatting.count(round(pairs, 1))} ({formatting.percent(pairs / total)})",
            }
        )
    return rows


def _error_summary(bins: Sequence[Bin], measure: str) -> str:
    total = formatting.count(sum(bin_.pairs for bin_ in bins))
    lower, median, upper = (formatting.number(_quantile(bins, share)) for share in (0.25, 0.5, 0.75))
    return (
        f"Half of {total} errors, prediction - truth, lie between {lower} and {upper}{measure}; "
        f"their median is {median}{measure}."
    )


def _edge(number: float) -> str:
    return f"{number:,.6g}"


def _quantile(bins: Sequence[Bin], share: float) -> float:
    """Returns the error below which this share of all lies; within a bin in proportion."""
    reached = list(accumulate(bin_.pairs for bin_ in bins))  # up to the end of each bin
    position = share * reached[-1]
    place = min(bisect_right(reached, position), len(bins) - 1)
    lower, upper, pairs = bins[place]
    return upper - (upper - lower) * min(1.0, max(0.0, (reached[place] - position) / pairs if pairs else 0.0))


def _width(low: float, high: float) -> float:
    """Returns a round width with which at most `MOST_BARS` bars reach from end to end, both tails included."""
    least = (high - low) / (MOST_BARS - 4)
    if least <= 0:
        least = max(abs(high), 1e-12) / 10
    power = 10.0 ** math.floor(math.log10(least))
    return next(width for digit in _ROUND if (width := digit * power) >= least * (1 - 1e-9))


def _bar(error: float, width: float) -> int:
    """Returns the bar of an error; bar 0 has 0 in its middle."""
    return math.floor(error / width + 0.5)


def _spread(bin_: Bin, width: float, first: int, last: int) -> list[tuple[int, float]]:
    """Spreads a bin over bars; returns (bar, pairs). The first bar also holds all before it, the last all beyond it."""
    begin, end = (min(max(_bar(edge, width), first), last) for edge in (bin_.lower, bin_.upper))
    if begin == end:
        return [(begin, bin_.pairs)]
    cuts = [bin_.lower, *((bar + 0.5) * width for bar in range(begin, end)), bin_.upper]
    return [
        (bar, bin_.pairs * (right - left) / (bin_.upper - bin_.lower))
        for bar, (left, right) in zip(range(begin, end + 1), pairwise(cuts), strict=True)
    ]


def _bar_row(place: int, name: str, share: float, *, edge: float, text: str, tooltip: str) -> dict[str, Any]:
    """Returns the row of a bar with a name; `edge` is where its text begins."""
    return {"place": place, "share": share, "edge": edge, "text": text, "name": name, "tooltip": tooltip}


def label_delay(delay: LabelDelay) -> Chart | None:
    """Draws how long after their predictions labels came."""
    if not delay.count:
        return None
    bounds = [formatting.duration(bound).replace(".0 ", " ") for bound, _ in delay.buckets]
    reached = [*(count for _, count in delay.buckets), delay.count]  # labels up to each bound, and all
    names = [
        f"up to {bounds[0]}",
        *(f"{lower} to {upper}" for lower, upper in pairwise(bounds)),
        f"over {bounds[-1]}",
    ][: reached.index(delay.count) + 1]  # no label was later
    counts = [upto - before for upto, before in zip(reached, (0.0, *reached), strict=False)][: len(names)]
    columns = columns_of(
        [
            _delay_row(place, name, count, delay.count)
            for place, (name, count) in enumerate(zip(names, counts, strict=True))
        ]
    )
    summary = _delay_summary(delay, bounds)
    headings = {"name": "after the prediction", "count": "labels", "share": "share"}
    return Chart("label_delay", "Time from prediction to label", summary, columns, headings, {"names": names})


def _delay_row(place: int, name: str, count: float, total: float) -> dict[str, Any]:
    share = count / total
    text = formatting.percent(share) if count else ""
    tooltip = f"{name}: {formatting.count(count)} ({formatting.percent(share)})"
    return _bar_row(place, name, share, edge=share, text=text, tooltip=tooltip) | {
        "lower": None,
        "upper": None,
        "count": count,
    }


def _delay_summary(delay: LabelDelay, bounds: Sequence[str]) -> str:
    within = (
        f"up to {bound}"
        for bound, (_, reached) in zip(bounds, delay.buckets, strict=True)
        if reached >= delay.count / 2
    )
    return (
        f"Half of {formatting.count(delay.count)} labels came {next(within, f'over {bounds[-1]}')} "
        f"after the prediction, {formatting.duration(delay.sum / delay.count)} in the mean."
    )


def class_shares(values: Sequence[MetricValue]) -> Chart | None:
    """Draws how often each class is predicted, with 95 % intervals.

    Of many classes the most frequent are drawn, in the order of their labels, which does not change.
    """
    all_shares = sorted(
        (value for value in values if value.name == "model_predicted_class_ratio"),
        key=lambda value: class_order(value.labels["class"]),
    )
    if not all_shares:
        return None
    least = sorted((value.value for value in all_shares), reverse=True)[:MOST_CLASSES][-1]
    drawn = [value for value in all_shares if value.value >= least][:MOST_CLASSES]
    columns = columns_of([_class_row(place, value) for place, value in enumerate(drawn)])
    headings = {"name": "class", "share": "share", "lower": "lower", "upper": "upper"}
    first = max(drawn, key=lambda value: value.value)
    summary = (
        f"Most often predicted: class {first.labels['class']}, "
        f"{formatting.percent(first.value)} of {formatting.count(first.support)} predictions."
    )
    if left_out := len(all_shares) - len(drawn):
        summary += f" {left_out} rarer classes are left out."
    layout = {"names": [value.labels["class"] for value in drawn]}
    return Chart("class_shares", "Predicted classes", summary, columns, headings, layout)


def _class_row(place: int, value: MetricValue) -> dict[str, Any]:
    lower, upper = interval_of(value) or (None, None)
    name = value.labels["class"]
    row = _bar_row(
        place,
        name,
        value.value,
        edge=upper or value.value,
        text=formatting.percent(value.value),
        tooltip=f"{name}: {value_with_interval(value)}",
    )
    return {**row, "lower": lower, "upper": upper}
