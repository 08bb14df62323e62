"""The parts of every chart: columns that change, a layout that stays, and a summary for those who do not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metrics_server.api.responses import interval_of
from metrics_server.api.schema import MetricValue
from metrics_server.web import formatting

MILLISECONDS = 1000.0  # in a second: times on axes are in milliseconds since the epoch

Columns = dict[str, list[Any]]

_PROPER = {
    "roc auc": "ROC AUC",
    "f1": "F1",
    "r2": "R²",
    "ndcg": "nDCG",
    "cohen kappa": "Cohen's kappa",
    "brier": "Brier",
    "matthews": "Matthews",
}


class Chart(NamedTuple):
    """One chart as data.

    Attributes:
        name: of the drawing in `figure`; unique on a page.
        title: short; without numbers, so that it stays while they change.
        summary: a sentence or two with the main numbers: the text alternative of the picture.
        columns: of equal length: floats, None where there is no number, and strings, which are never None.
        headings: column -> heading in the table under the chart; columns that are not named are left out of it.
        layout: everything else that the drawing depends on, as JSON. While the layout is equal, new columns alone
            bring the drawing up to date.
    """

    name: str
    title: str
    summary: str
    columns: Mapping[str, list[Any]]
    headings: Mapping[str, str]
    layout: Mapping[str, Any]


def metric_title(name: str) -> str:
    """Returns the name of a value as people write it: "accuracy" for `model_accuracy_ratio`."""
    title = name.removeprefix("model_").removesuffix("_ratio").replace("_", " ")
    for plain, proper in _PROPER.items():
        if f" {plain} " in f" {title} ":
            title = title.replace(plain, proper, 1)
    return title


def value_title(name: str, labels: Mapping[str, str]) -> str:
    """Returns the title of a value with its labels: "recall, class 2"."""
    return ", ".join((metric_title(name), *(f"{label} {of}" for label, of in labels.items())))


def value_text(value: MetricValue) -> str:
    """Writes a value with the digits that are meaningful given its interval: "0.912"."""
    return formatting.number(value.value, interval_of(value))


def value_with_interval(value: MetricValue) -> str:
    """Writes a value with its interval, if it has one: "0.912 (0.900 to 0.924)"."""
    interval, text = interval_of(value), value_text(value)
    if interval is None:
        return text
    lower, upper = (formatting.number(end, interval) for end in interval)
    return f"{text} ({lower} to {upper})"


def capital(sentence: str) -> str:
    """Begins a sentence with a capital letter; the other letters stay."""
    return sentence[:1].upper() + sentence[1:]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Turns rows, of which there is at least one, into columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def lone(values: Sequence[float | None]) -> list[float | None]:
    """Returns the values that have no neighbour to draw a line to; None in the place of all others."""
    with_neighbours = zip((None, *values), values, (*values[1:], None), strict=False)
    return [None if before is not None or after is not None else value for before, value, after in with_neighbours]
