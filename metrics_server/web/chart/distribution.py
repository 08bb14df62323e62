"""Charts of distributions: errors, times to the label, predicted classes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from metrics_server.api.responses import class_order
from metrics_server.api.schema import LabelDelay, MetricValue, Table
from metrics_server.web import formatting as wording
from metrics_server.web.chart.chart import Chart, ends_of, said, transposed

MOST_BARS = 40
MOST_CLASSES = 20
TAIL = 0.01  # of the errors, at each end, may be drawn as one bar
_ROUND = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

Bins = list[tuple[float, float, float]]  # (lower, upper, pairs), ascending


def error_distribution(rows: Table, unit: str = "") -> Chart | None:
    """Errors, prediction - truth, in bars of equal width of which one has 0 in its middle.

    The bins of the table are spread evenly over the bars that they lie in. The outermost bars also hold what lies
    beyond them, at most a hundredth of all at each end.
    """
    bins = [(float(row["lower"]), float(row["upper"]), float(row["pairs"])) for row in rows]
    total = sum(pairs for _, _, pairs in bins)
    if not total:
        return None
    low, high = _quantile(bins, TAIL), _quantile(bins, 1 - TAIL)
    width = _width(low, high)
    first, last = _bar(low, width), _bar(high, width)
    bars = [0.0] * (last - first + 3)
    for bin_ in bins:
        for bar, pairs in _spread(bin_, width, first - 1, last + 1):
            bars[bar - first + 1] += pairs
    measure = f" {unit}" if unit else ""
    cells = []
    for place, pairs in enumerate(bars):
        left, right = (first - 1 + place - 0.5) * width, (first - 1 + place + 0.5) * width
        inner = 0 < place < len(bars) - 1
        what = (
            f"{_edge(left)} to {_edge(right)}"
            if inner
            else f"below {_edge(right)}"
            if place == 0
            else f"{_edge(left)} and above"
        )
        cells.append(
            (
                left,
                right,
                pairs,
                1.0 if inner else 0.45,
                f"{what}{measure}",
                f"{wording.count(round(pairs, 1))} ({wording.percent(pairs / total)})",
            )
        )
    columns = transposed(("left", "right", "pairs", "alpha", "what", "said"), cells)
    quarter, median, most = (wording.number(_quantile(bins, share)) for share in (0.25, 0.5, 0.75))
    summary = f"Half of {wording.count(total)} errors, prediction - truth, lie between {quarter} and {most}{measure}; their median is {median}{measure}."
    headings = {"what": f"error{f' ({unit})' if unit else ''}", "pairs": "pairs"}
    return Chart("error_distribution", "Errors: prediction - truth", summary, columns, headings, {"unit": unit})


def _edge(number: float) -> str:
    return f"{number:,.6g}"


def _quantile(bins: Bins, share: float) -> float:
    """The error below which this share of all lies; within a bin in proportion."""
    upto = list(accumulate(pairs for _, _, pairs in bins))
    position = share * upto[-1]
    lower, upper, pairs = bins[min(bisect_right(upto, position), len(bins) - 1)]
    reached = upto[min(bisect_right(upto, position), len(bins) - 1)]
    return upper - (upper - lower) * min(1.0, max(0.0, (reached - position) / pairs if pairs else 0.0))


def _width(low: float, high: float) -> float:
    """A round number so that at most `MOST_BARS` bars reach from end to end, both tails with them."""
    least = (high - low) / (MOST_BARS - 4)
    if least <= 0:
        least = max(abs(high), 1e-12) / 10
    power = 10.0 ** math.floor(math.log10(least))
    return next(width for digit in _ROUND if (width := digit * power) >= least * (1 - 1e-9))


def _bar(error: float, width: float) -> int:
    return math.floor(error / width + 0.5)


def _spread(bin_: tuple[float, float, float], width: float, first: int, last: int) -> list[tuple[int, float]]:
    """(bar, pairs) of a bin; bars before the first and after the last are those."""
    lower, upper, pairs = bin_
    begin, end = (min(max(_bar(edge, width), first), last) for edge in (lower, upper))
    if begin == end:
        return [(begin, pairs)]
    cuts = [lower, *((bar + 0.5) * width for bar in range(begin, end)), upper]
    return [
        (begin + place, pairs * (cuts[place + 1] - cuts[place]) / (upper - lower)) for place in range(end - begin + 1)
    ]


def label_delay(delay: LabelDelay) -> Chart | None:
    """How long after the prediction labels came."""
    if not delay.count:
        return None
    bounds = [wording.duration(bound).replace(".0 ", " ") for bound, _ in delay.buckets]
    upto = [*(reached for _, reached in delay.buckets), delay.count]
    counts = [reached - before for reached, before in zip(upto, (0.0, *upto), strict=False)]
    names = [
        f"up to {bounds[0]}",
        *(f"{lower} to {upper}" for lower, upper in pairwise(bounds)),
        f"over {bounds[-1]}",
    ]
    used = upto.index(delay.count) + 1  # none was later
    counts, names = counts[:used], names[:used]
    cells = []
    for place, (name, count) in enumerate(zip(names, counts, strict=True)):
        share = count / delay.count
        percent = wording.percent(share) if count else ""
        cells.append(
            (
                place,
                share,
                share,
                None,
                None,
                percent,
                name,
                count,
                f"{name}: {wording.count(count)} ({wording.percent(share)})",
            )
        )
    columns = transposed(("place", "share", "edge", "lower", "upper", "text", "name", "count", "said"), cells)
    observation = next(
        (bound for bound, (_, reached) in zip(bounds, delay.buckets, strict=True) if reached >= delay.count / 2), None
    )
    when = f"over {bounds[-1]}" if observation is None else f"up to {observation}"
    summary = f"Half of {wording.count(delay.count)} labels came {when} after the prediction, {wording.duration(delay.sum / delay.count)} in the mean."
    headings = {"name": "after the prediction", "count": "labels", "share": "share"}
    return Chart("label_delay", "Time from prediction to label", summary, columns, headings, {"names": names})


def class_shares(values: Sequence[MetricValue]) -> Chart | None:
    """How often each class is predicted, with 95 % intervals: the most frequent ones, in the order of their labels,
    which stays.
    """
    found = sorted(
        (value for value in values if value.name == "model_predicted_class_ratio"),
        key=lambda value: class_order(value.labels["class"]),
    )
    if not found:
        return None
    least = sorted((value.value for value in found), reverse=True)[:MOST_CLASSES][-1]
    shown = [value for value in found if value.value >= least][:MOST_CLASSES]
    cells = []
    for place, value in enumerate(shown):
        lower, upper = ends_of(value) or (None, None)
        name = value.labels["class"]
        cells.append(
            (
                place,
                value.value,
                upper or value.value,
                lower,
                upper,
                wording.percent(value.value),
                name,
                f"{name}: {said(value)}",
            )
        )
    columns = transposed(("place", "share", "edge", "lower", "upper", "text", "name", "said"), cells)
    headings = {"name": "class", "share": "share", "lower": "lower", "upper": "upper"}
    first = max(shown, key=lambda value: value.value)
    summary = f"Most often predicted: class {first.labels['class']}, {wording.percent(first.value)} of {wording.count(first.support)} predictions."
    if left_out := len(found) - len(shown):
        summary += f" {left_out} rarer classes are left out."
    return Chart(
        "class_shares",
        "Predicted classes",
        summary,
        columns,
        headings,
        {"names": [value.labels["class"] for value in shown]},
    )
