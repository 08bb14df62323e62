"""Charts of histories, by time of prediction.

A step that holds nothing is a row without numbers, so that no line bridges it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from metrics_server.api.responses import interval_of
from metrics_server.api.schema import History, MetricValue, Point
from metrics_server.metrics.window import DAY
from metrics_server.web import formatting
from metrics_server.web.chart.chart import (
    MILLISECONDS,
    Chart,
    Columns,
    capital,
    lone,
    metric_title,
    value_title,
    value_with_interval,
)

MOST_COMPARED = 6  # predictors: there are no more colours that can be told apart

COVERAGE, QUANTILE = "model_label_coverage_ratio", "model_output_quantile"
QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")

Labels = Mapping[str, str]


def metric_over_time(history: History, name: str, labels: Labels | None = None) -> Chart | None:
    """Draws a metric with its 95 % interval, and under it the numbers of predictions and of labelled ones.

    `labels` are those that the metric has beside those of the series, such as a class; without them the first value of
    that name is drawn.
    """
    labels = _labels_of([history], name) if labels is None else labels
    if labels is None or not any(_value(point, name, labels) for point in history.points):
        return None
    points = _steps(history)
    values = [_value(point, name, labels) for point in points]
    supports = [0.0 if point is None else point.support for point in points]
    coverages = [_value(point, COVERAGE) for point in points]
    whens = _whens(history, len(points))
    columns: Columns = {
        "at": _middles(history, len(points)),
        **_line_with_band(values),
        "support": supports,
        "predictions": [None if coverage is None else coverage.support for coverage in coverages],
        "coverage": [None if coverage is None else coverage.value for coverage in coverages],
        "when": whens,
        "tooltip": ["" if value is None else value_with_interval(value) for value in values],
        "rows": [_labelled_text(support, coverage) for support, coverage in zip(supports, coverages, strict=True)],
    }
    headings = {"at": "time (UTC)", "value": metric_title(name), "lower": "lower", "upper": "upper"}
    headings |= {"support": "labelled", "coverage": "label coverage"}
    title = value_title(name, labels)
    layout = {"title": title, "step": history.step * MILLISECONDS}
    summary = f"{_range_summary(title, whens, values)} {_missing(values)}{_coverage_summary(supports, coverages)}"
    return Chart("metric_over_time", f"{capital(title)} over time", summary.strip(), columns, headings, layout)


def compared_over_time(histories: Mapping[str, History], name: str, labels: Labels | None = None) -> Chart | None:
    """Draws a metric of several predictors; `labels` as in `metric_over_time`. The histories have the same step."""
    drawn = dict(list(histories.items())[:MOST_COMPARED])
    labels = _labels_of(drawn.values(), name) if labels is None else labels
    if labels is None or not any(_value(point, name, labels) for history in drawn.values() for point in history.points):
        return None
    span = _spanning(list(drawn.values()))
    names = [predictor or formatting.UNNAMED for predictor in drawn]
    values = [[_value(point, name, labels) for point in _steps(span, history)] for history in drawn.values()]
    title = value_title(name, labels)
    summary = f"Latest {title}: {'; '.join(map(_latest, names, values))}."
    if left_out := len(histories) - len(drawn):
        summary += f" {left_out} further {'predictor is' if left_out == 1 else 'predictors are'} left out."
    return Chart(
        "compared_over_time",
        f"{capital(title)} of the predictors",
        summary,
        _compared_columns(span, names, values),
        _compared_headings(names),
        {"title": title, "names": names, "step": span.step * MILLISECONDS},
    )


def _compared_columns(span: History, names: Sequence[str], values: Sequence[Sequence[MetricValue | None]]) -> Columns:
    by_step = list(zip(*values, strict=True))
    columns: Columns = {"at": _middles(span, len(by_step)), "when": _whens(span, len(by_step))}
    # Where the mouse finds a row: at the first of the values that there are.
    columns["spot"] = [next((value.value for value in step if value is not None), None) for step in by_step]
    for number, (predictor, of_predictor) in enumerate(zip(names, values, strict=True)):
        columns |= {f"{column}_{number}": cells for column, cells in _line_with_band(of_predictor).items()}
        columns[f"tooltip_{number}"] = [
            f"{predictor}: {formatting.UNNAMED if value is None else value_with_interval(value)}"
            for value in of_predictor
        ]
    return columns


def _compared_headings(predictors: Sequence[str]) -> dict[str, str]:
    headings = {"at": "time (UTC)"}
    for number, predictor in enumerate(predictors):
        headings[f"value_{number}"] = predictor
        headings[f"lower_{number}"] = f"{predictor}, lower"
        headings[f"upper_{number}"] = f"{predictor}, upper"
    return headings


def output_quantiles(history: History) -> Chart | None:
    """Draws the distribution of numeric predictions: the median, the middle half, and nine tenths around it."""
    points = _steps(history)
    by_quantile = {q: [_value(point, QUANTILE, {"q": q}) for point in points] for q in QUANTILES}
    fans = [_Fan(*values) for values in zip(*by_quantile.values(), strict=True)]
    medians = by_quantile["0.5"]
    if not any(medians):
        return None
    whens = _whens(history, len(points))
    numbers = {q: [None if value is None else value.value for value in values] for q, values in by_quantile.items()}
    columns: Columns = {
        "at": _middles(history, len(points)),
        **{_column(q): cells for q, cells in numbers.items()},
        "lone": lone(numbers["0.5"]),
        "when": whens,
        "tooltip": ["" if value is None else f"median {formatting.number(value.value)}" for value in medians],
        "half": [_between("half", fan.q25, fan.q75) for fan in fans],
        "most": [_between("nine tenths", fan.q05, fan.q95) for fan in fans],
    }
    headings = {"at": "time (UTC)", **{_column(q): f"quantile {q}" for q in QUANTILES}}
    when, latest = [(when, fan) for when, fan in zip(whens, fans, strict=True) if fan.q50 is not None][-1]
    spread = _between("nine tenths", latest.q05, latest.q95)
    median = formatting.number(None if latest.q50 is None else latest.q50.value)
    summary = f"Median of the predictions {median}, {spread}, at {when}. {_missing(medians)}"
    layout = {"step": history.step * MILLISECONDS}
    return Chart("output_quantiles", "Predictions over time", summary.strip(), columns, headings, layout)


class _Fan(NamedTuple):
    """The quantiles of the predictions of one step."""

    q05: MetricValue | None
    q25: MetricValue | None
    q50: MetricValue | None
    q75: MetricValue | None
    q95: MetricValue | None


def _column(q: str) -> str:
    return f"q{float(q) * 100:02.0f}"


def _between(share: str, lower: MetricValue | None, upper: MetricValue | None) -> str:
    if lower is None or upper is None:
        return ""
    return f"{share} between {formatting.number(lower.value)} and {formatting.number(upper.value)}"


def _spanning(histories: Sequence[History]) -> History:
    """Returns an empty history from the first beginning to the last end.

    Of histories that were read one after another, some may have a step more.
    """
    since, until = min(history.since for history in histories), max(history.until for history in histories)
    return History(since=since, until=until, step=histories[0].step, points=[])


def _steps(span: History, history: History | None = None) -> list[Point | None]:
    """Returns the point of each step of `span`, or None: those of another history if one is given."""
    by_start = {point.since: point for point in (history or span).points}
    return [by_start.get(start) for start in range(int(span.since), int(span.until), span.step)]


def _middles(history: History, steps: int) -> list[float]:
    return [(history.since + (step + 0.5) * history.step) * MILLISECONDS for step in range(steps)]


def _whens(history: History, steps: int) -> list[str]:
    return [_when(history.since + step * history.step, history.step) for step in range(steps)]


def _when(start: float, step: int) -> str:
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (start, start + step))
    if step == DAY:
        return f"{begin:%Y-%m-%d}"
    if step > DAY:
        return f"{begin:%Y-%m-%d} to {datetime.fromtimestamp(start + step - 1, UTC):%Y-%m-%d}"
    return f"{begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC"


def _labels_of(histories: Iterable[History], name: str) -> Labels | None:
    """Returns the labels of the first value of this name; {} if it is there without any, None if it is not there."""
    candidates = [
        value.labels
        for history in histories
        for point in history.points
        for value in point.values
        if value.name == name
    ]
    return min(candidates, key=len, default=None)


def _value(point: Point | None, name: str, labels: Labels | None = None) -> MetricValue | None:
    if point is None:
        return None
    return next((value for value in point.values if value.name == name and value.labels == (labels or {})), None)


def _line_with_band(values: Sequence[MetricValue | None]) -> Columns:
    """Returns the columns of a line and its band; `lone` are the values without a neighbour to draw a line to."""
    numbers = [None if value is None else value.value for value in values]
    intervals = [(None if value is None else interval_of(value)) or (None, None) for value in values]
    return {
        "value": numbers,
        "lower": [lower for lower, _ in intervals],
        "upper": [upper for _, upper in intervals],
        "lone": lone(numbers),
    }


def _labelled_text(support: float, coverage: MetricValue | None) -> str:
    labelled = formatting.count(support)
    if coverage is None:
        return f"{labelled} labelled"
    return f"{labelled} of {formatting.count(coverage.support)} labelled ({formatting.percent(coverage.value)})"


def _range_summary(title: str, whens: Sequence[str], values: Sequence[MetricValue | None]) -> str:
    """Says the latest value, and the range of all."""
    present = [(when, value) for when, value in zip(whens, values, strict=True) if value is not None]
    when, latest = present[-1]
    numbers = [value.value for _, value in present]
    least, most = formatting.number(min(numbers)), formatting.number(max(numbers))
    return f"{capital(title)} {value_with_interval(latest)} at {when}; between {least} and {most} in all."


def _missing(values: Sequence[MetricValue | None]) -> str:
    missing = sum(value is None for value in values)
    return f"{missing} of {len(values)} steps have none. " if missing else ""


def _coverage_summary(supports: Sequence[float], coverages: Sequence[MetricValue | None]) -> str:
    logged = [
        (support, coverage.support)
        for support, coverage in zip(supports, coverages, strict=True)
        if coverage is not None
    ]
    predictions = sum(count for _, count in logged)
    if not predictions:
        return f"{formatting.count(sum(supports))} labelled."
    share = sum(support for support, _ in logged) / predictions
    return f"{formatting.percent(share)} of {formatting.count(predictions)} predictions are labelled."


def _latest(predictor: str, values: Sequence[MetricValue | None]) -> str:
    latest = next((value for value in reversed(values) if value is not None), None)
    return f"{predictor} {formatting.UNNAMED if latest is None else value_with_interval(latest)}"
