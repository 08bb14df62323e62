"""What every chart is made of: columns that move, a layout that stays, and words for who does not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from metrics_server.api.schema import MetricValue
from metrics_server.web import formatting as wording

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
    """What one chart shows.

    Attributes:
        name: which drawing of `figure` it is; unique on a page.
        title: short; without numbers, so that it stays while they move.
        summary: a sentence or two with the main numbers: the text alternative of the picture.
        columns: of equal length: floats, None where there is no number, and strings, which are never None.
        headings: column -> heading in the table under the chart; columns that are not named are left out of it.
        layout: everything else that the drawing depends on, as JSON. While it is equal, new columns alone bring the
            drawing up to date.
    """

    name: str
    title: str
    summary: str
    columns: Mapping[str, list[Any]]
    headings: Mapping[str, str]
    layout: Mapping[str, Any]


def metric_title(name: str) -> str:
    """The name of a value as people write it: "accuracy" for `model_accuracy_ratio`."""
    title = name.removeprefix("model_").removesuffix("_ratio").replace("_", " ")
    for plain, proper in _PROPER.items():
        if f" {plain} " in f" {title} ":
            title = title.replace(plain, proper, 1)
    return title


def value_title(name: str, labels: Mapping[str, str]) -> str:
    """The same of one of many: "recall, class 2"."""
    return ", ".join((metric_title(name), *(f"{label} {of}" for label, of in labels.items())))


def ends_of(value: MetricValue) -> tuple[float, float] | None:
    """The ends of the interval, if it has one."""
    return None if value.lower is UNSET or value.upper is UNSET else (value.lower, value.upper)


def shown(value: MetricValue) -> str:
    """A value with the digits that its interval leaves meaning."""
    return wording.number(value.value, ends_of(value))


def said(value: MetricValue) -> str:
    """The same with its interval."""
    ends, number = ends_of(value), shown(value)
    return number if ends is None else f"{number} ({' to '.join(wording.number(end, ends) for end in ends)})"


def capital(sentence: str) -> str:
    """The same with a capital letter first; the other letters stay."""
    return sentence[:1].upper() + sentence[1:]


def transposed(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Columns:
    """Rows as columns of these names."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def lone(values: Sequence[float | None]) -> list[float | None]:
    """Those values that have no neighbour to draw a line to."""
    around = zip((None, *values), values, (*values[1:], None), strict=False)
    return [None if before is not None or after is not None else value for before, value, after in around]
