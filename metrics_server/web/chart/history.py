"""Charts of histories: what was at each time of prediction. A step that holds nothing is a row without numbers, so that
no line bridges it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from metrics_server.api.schema import History, MetricValue, Point
from metrics_server.metrics.window import DAY
from metrics_server.web import formatting as wording
from metrics_server.web.chart.chart import (
    MILLISECONDS,
    Chart,
    Columns,
    capital,
    ends_of,
    lone,
    metric_title,
    said,
    transposed,
    value_title,
)

MOST_COMPARED = 6  # predictors: as many as there are colours that can be told apart

COVERAGE, QUANTILE = "model_label_coverage_ratio", "model_output_quantile"
QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")

Labels = Mapping[str, str]


def metric_over_time(history: History, name: str, labels: Labels | None = None) -> Chart | None:
    """A metric by time of prediction with its 95 % interval, and under it how many predictions there were and how many
    have a label.

    `labels` are those that the metric has beside those of the series, such as a class; without them it is the first of
    that name.
    """
    labels = _labels_of([history], name) if labels is None else labels
    if labels is None or not any(_value(point, name, labels) for point in history.points):
        return None
    points = _steps(history)
    values = [_value(point, name, labels) for point in points]
    supports = [0.0 if point is None else point.support for point in points]
    logged = [_value(point, COVERAGE) for point in points]
    columns: Columns = {
        "at": _middles(history, len(points)),
        **_drawn(values),
        "support": supports,
        "predictions": [None if coverage is None else coverage.support for coverage in logged],
        "coverage": [None if coverage is None else coverage.value for coverage in logged],
        "when": _whens(history, len(points)),
        "said": ["" if value is None else said(value) for value in values],
        "rows": [_rows_said(support, coverage) for support, coverage in zip(supports, logged, strict=True)],
    }
    headings = {"at": "time (UTC)", "value": metric_title(name), "lower": "lower", "upper": "upper"}
    headings |= {"support": "labelled", "coverage": "label coverage"}
    title = value_title(name, labels)
    layout = {"title": title, "step": history.step * MILLISECONDS}
    summary = f"{_told(title, columns['when'], values)} {_missing(values)}{_coverage_said(supports, logged)}"
    return Chart("metric_over_time", f"{capital(title)} over time", summary.strip(), columns, headings, layout)


def compared_over_time(histories: Mapping[str, History], name: str, labels: Labels | None = None) -> Chart | None:
    """A metric of several predictors by time of prediction, with `labels` as above. Their histories have the same
    step.
    """
    shown = dict(list(histories.items())[:MOST_COMPARED])
    labels = _labels_of(shown.values(), name) if labels is None else labels
    if labels is None or not any(_value(point, name, labels) for history in shown.values() for point in history.points):
        return None
    whole = _around(list(shown.values()))
    found = {
        predictor: [_value(point, name, labels) for point in _steps(whole, history)]
        for predictor, history in shown.items()
    }
    rows = list(zip(*found.values(), strict=True))
    names = [predictor or wording.UNNAMED for predictor in shown]
    columns: Columns = {"at": _middles(whole, len(rows)), "when": _whens(whole, len(rows))}
    # Where the pointer finds a row: at the first of the values that there are.
    columns["spot"] = [next((value.value for value in row if value is not None), None) for row in rows]
    for number, (predictor, values) in enumerate(zip(names, found.values(), strict=True)):
        columns |= {f"{column}_{number}": cells for column, cells in _drawn(values).items()}
        columns[f"said_{number}"] = [
            f"{predictor}: {wording.UNNAMED if value is None else said(value)}" for value in values
        ]
    headings = {"at": "time (UTC)"}
    for number, predictor in enumerate(names):
        headings |= {
            f"value_{number}": predictor,
            f"lower_{number}": f"{predictor}, lower",
            f"upper_{number}": f"{predictor}, upper",
        }
    title = value_title(name, labels)
    summary = f"Latest {title}: {'; '.join(_latest(*one) for one in zip(names, found.values(), strict=True))}."
    if left_out := len(histories) - len(shown):
        summary += f" {left_out} further {'predictor is' if left_out == 1 else 'predictors are'} left out."
    layout = {"title": title, "names": names, "step": whole.step * MILLISECONDS}
    return Chart("compared_over_time", f"{capital(title)} of the predictors", summary, columns, headings, layout)


def output_quantiles(history: History) -> Chart | None:
    """How numeric predictions are distributed by time: the middle half and nine tenths of them around their median."""
    points = _steps(history)
    found = {q: [_value(point, QUANTILE, {"q": q}) for point in points] for q in QUANTILES}
    if not any(found["0.5"]):
        return None
    rows = list(zip(*found.values(), strict=True))
    columns: Columns = {
        "at": _middles(history, len(points)),
        **{_column(q): [None if value is None else value.value for value in values] for q, values in found.items()},
        "lone": lone([None if value is None else value.value for value in found["0.5"]]),
        "when": _whens(history, len(points)),
        "said": ["" if row[2] is None else f"median {wording.number(row[2].value)}" for row in rows],
        "half": [_between("half", row[1], row[3]) for row in rows],
        "most": [_between("nine tenths", row[0], row[4]) for row in rows],
    }
    headings = {"at": "time (UTC)", **{_column(q): f"quantile {q}" for q in QUANTILES}}
    at, last = next(
        (at, row) for at, row in zip(reversed(columns["when"]), reversed(rows), strict=True) if row[2] is not None
    )
    spread = _between("nine tenths", last[0], last[4])
    summary = f"Median of the predictions {wording.number(last[2].value)}, {spread}, at {at}. {_missing(found['0.5'])}"
    return Chart(
        "output_quantiles",
        "Predictions over time",
        summary.strip(),
        columns,
        headings,
        {"step": history.step * MILLISECONDS},
    )


def _column(q: str) -> str:
    return f"q{float(q) * 100:02.0f}"


def _between(share: str, lower: MetricValue | None, upper: MetricValue | None) -> str:
    return (
        ""
        if lower is None or upper is None
        else f"{share} between {wording.number(lower.value)} and {wording.number(upper.value)}"
    )


def _around(histories: Sequence[History]) -> History:
    """From the first beginning to the last end: of histories that were asked for one after another some may have a step
    more.
    """
    since, until = min(one.since for one in histories), max(one.until for one in histories)
    return History(since=since, until=until, step=histories[0].step, points=[])


def _steps(history: History, of: History | None = None) -> list[Point | None]:
    """By step of the first history, what the second has."""
    found = {point.since: point for point in (of or history).points}
    return [found.get(start) for start in range(int(history.since), int(history.until), history.step)]


def _middles(history: History, steps: int) -> list[float]:
    return [(history.since + (step + 0.5) * history.step) * MILLISECONDS for step in range(steps)]


def _whens(history: History, steps: int) -> list[str]:
    return [_when(history.since + step * history.step, history.step) for step in range(steps)]


def _when(start: float, step: int) -> str:
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (start, start + step))
    if step >= DAY:
        return (
            f"{begin:%Y-%m-%d}"
            if step == DAY
            else f"{begin:%Y-%m-%d} to {datetime.fromtimestamp(start + step - 1, UTC):%Y-%m-%d}"
        )
    return f"{begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC"


def _labels_of(histories: Iterable[History], name: str) -> Labels | None:
    """The labels of the value of this name: none if it is there without any, else those that it has first; None if it
    is not there.
    """
    found = [
        value.labels
        for history in histories
        for point in history.points
        for value in point.values
        if value.name == name
    ]
    return min(found, key=len, default=None)


def _value(point: Point | None, name: str, labels: Labels | None = None) -> MetricValue | None:
    if point is None:
        return None
    return next((value for value in point.values if value.name == name and value.labels == (labels or {})), None)


def _drawn(values: Sequence[MetricValue | None]) -> Columns:
    """The columns of a line with its band; `lone` are those values that have no neighbour to draw a line to."""
    rows = [
        (None, None, None) if value is None else (value.value, *(ends_of(value) or (None, None))) for value in values
    ]
    return transposed(("value", "lower", "upper"), rows) | {
        "lone": lone([None if value is None else value.value for value in values])
    }


def _rows_said(support: float, coverage: MetricValue | None) -> str:
    if coverage is None:
        return f"{wording.count(support)} labelled"
    return f"{wording.count(support)} of {wording.count(coverage.support)} labelled ({wording.percent(coverage.value)})"


def _told(title: str, whens: Sequence[str], values: Sequence[MetricValue | None]) -> str:
    """The latest value, and between which the others lie."""
    present = [(when, value) for when, value in zip(whens, values, strict=True) if value is not None]
    when, last = present[-1]
    numbers = [value.value for _, value in present]
    return f"{capital(title)} {said(last)} at {when}; between {wording.number(min(numbers))} and {wording.number(max(numbers))} in all."


def _missing(values: Sequence[MetricValue | None]) -> str:
    missing = sum(value is None for value in values)
    return f"{missing} of {len(values)} steps have none. " if missing else ""


def _coverage_said(supports: Sequence[float], logged: Sequence[MetricValue | None]) -> str:
    known = [(support, one.support) for support, one in zip(supports, logged, strict=True) if one is not None]
    predictions = sum(count for _, count in known)
    if not predictions:
        return f"{wording.count(sum(supports))} labelled."
    share = sum(support for support, _ in known) / predictions
    return f"{wording.percent(share)} of {wording.count(predictions)} predictions are labelled."


def _latest(predictor: str, values: Sequence[MetricValue | None]) -> str:
    last = next((value for value in reversed(values) if value is not None), None)
    return f"{predictor} {wording.UNNAMED if last is None else said(last)}"
