"""The parameters of queries to the JSON API and the page: one table, which the OpenAPI document is made from too.

A parameter that is not in the table is refused, so that a misspelt one does not quietly change the response.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from metrics_server.errors import BadRequest, Rejected
from metrics_server.ingest.cloudevent import seconds_at
from metrics_server.metrics.sums import LARGEST
from metrics_server.metrics.window import seconds_of
from metrics_server.series.series import Labels

LATEST = 253_402_300_800  # Unix seconds of the year 10000; milliseconds of our time lie far beyond
MAX_PARAMETERS = 20
MAX_PAGES = 10_000
NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
DURATION = "[1-9][0-9]{0,8}[smhd]"


class Parameter(NamedTuple):
    """One parameter: its description, and the function that parses its text, which raises ValueError."""

    name: str
    help: str
    schema: Mapping[str, Any]
    read: Callable[[str], Any]


def _time(text: str) -> float:
    if re.fullmatch(NUMBER, text):
        seconds = float(text)
    else:
        try:
            seconds = seconds_at(text)
        except Rejected:
            raise ValueError("want Unix seconds, or a timestamp such as 2026-03-02T09:15:04Z") from None
    if not 0 <= seconds < LATEST:
        raise ValueError("want a time since 1970, in seconds; not milliseconds")
    return seconds


def _duration(text: str) -> int:
    if not re.fullmatch(DURATION, text):
        raise ValueError("want a duration such as 15m, 1h or 1d")
    return seconds_of(text)


def _number(text: str) -> float:
    if not re.fullmatch(NUMBER, text) or not math.isfinite(number := float(text)) or abs(number) > LARGEST:
        raise ValueError("want a number up to 1e12")
    return number


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("want true or false")
    return text == "true"


def _dimension(text: str) -> str:
    if text != "predictor":
        raise ValueError("want predictor")
    return text


def _theme(text: str) -> str:
    if text not in ("light", "dark"):
        raise ValueError("want light or dark")
    return text


def _ordinal(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", text) or (number := int(text)) > MAX_PAGES:
        raise ValueError(f"want a whole number from 1 to {MAX_PAGES}")
    return number


def _share(text: str) -> float:
    if not 0 <= (number := _number(text)) <= 1:
        raise ValueError("want a number from 0 to 1")
    return number


def _margin(text: str) -> float:
    if (number := _number(text)) < 0:
        raise ValueError("want a number from 0")
    return number


_TEXT = {"type": "string"}
_TIME = {
    "anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": LATEST}, {"type": "string", "format": "date-time"}]
}
_MARGIN = {"type": "number", "minimum": 0, "maximum": LARGEST}
_COST = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}

WINDOW = Parameter("window", "Only this one of the configured windows.", _TEXT, str)
MODEL = (
    WINDOW,
    Parameter("slice", "The slice of the series with this name, such as `tenant=b 7`.", _TEXT, str),
    Parameter(
        "tables", "Also the curves: reliability, discrimination, thresholds, errors.", {"type": "boolean"}, _flag
    ),
    Parameter(
        "cost_false_positive", "Each row of `thresholds` gets the mean cost of a pair, from this.", _COST, _number
    ),
    Parameter(
        "cost_false_negative", "Each row of `thresholds` gets the mean cost of a pair, from this.", _COST, _number
    ),
    Parameter("from", "History: since when. Unix seconds or RFC 3339; a day before `to` by default.", _TIME, _time),
    Parameter("to", "History: until when; now by default.", _TIME, _time),
    Parameter(
        "step", "History: the length of a step, such as 15m.", {"type": "string", "pattern": f"^{DURATION}$"}, _duration
    ),
)
HISTORY = ("from", "to", "step")
COSTS = ("cost_false_positive", "cost_false_negative")
DEPLOYMENT = (
    Parameter(
        "compare", "Compares the predictors of the deployment.", {"type": "string", "enum": ["predictor"]}, _dimension
    ),
    Parameter("window", "The window to compare in; the first that is configured by default.", _TEXT, str),
    Parameter(
        "baseline",
        "The predictor that the others are compared with; by default the declared one, else the first that was seen.",
        _TEXT,
        str,
    ),
    Parameter("model", "Only this model.", _TEXT, str),
)

VERDICT = (
    Parameter("predictor", "Only the verdict of this one; `undecided` as long as it has not been seen.", _TEXT, str),
    *(parameter for parameter in DEPLOYMENT if parameter.name in ("baseline", "model")),
    Parameter("metric", "The value that decides, as on /v1/metrics; the headline by default.", _TEXT, str),
    Parameter("margin", "How large a difference does not matter; what is configured by default.", _MARGIN, _margin),
    Parameter(
        "since",
        "Only predictions since then, from the next bucket that is kept; since both were there by default.",
        _TIME,
        _time,
    ),
)

GROUPS = (
    Parameter("window", "The window to compare in; the first that is configured by default.", _TEXT, str),
    Parameter("dimension", "Only the groups of this dimension.", _TEXT, str),
)

_FIGURES = Parameter(
    "figures",
    "The figures of the page in these colours, as Bokeh's JSON, in its place.",
    {"type": "string", "enum": ["light", "dark"]},
    _theme,
)
_METRIC = Parameter("metric", "The value that is shown over time.", _TEXT, str)
OVERVIEW_PAGE = (
    WINDOW,
    Parameter("q", "Only series whose names hold this.", _TEXT, str),
    Parameter("page", "Which page of a long list.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGES}, _ordinal),
)
MODEL_PAGE = (
    WINDOW,
    *(parameter for parameter in MODEL if parameter.name in ("slice", *COSTS)),
    _METRIC,
    Parameter("class", "The class whose scores and thresholds are shown.", _TEXT, str),
    Parameter("threshold", "The threshold that is tried.", {"type": "number", "minimum": 0, "maximum": 1}, _share),
    _FIGURES,
)
DEPLOYMENT_PAGE = (*(parameter for parameter in DEPLOYMENT if parameter.name != "compare"), _METRIC, _FIGURES)
TREND = (WINDOW, Parameter("at", "When the list was made: so that a browser asks anew now and then.", _TIME, _time))
HEALTH_PAGE = (_FIGURES,)
ERASURE = (
    Parameter("namespace", "Of the deployment, where `--request_id_from` is configured for it.", _TEXT, str),
    Parameter("deployment", "Its name, likewise.", _TEXT, str),
)
TOKEN = (Parameter("access_token", "The token, where no header can be sent.", _TEXT, str),)


def read(query: str, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Parses a query; returns its arguments by name.

    Raises:
        BadRequest: it holds something else than these parameters, or one twice, or a value that cannot be read.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise BadRequest(f"the query: want at most {MAX_PARAMETERS} parameters, in UTF-8") from None
    arguments: dict[str, Any] = {}
    for name, text in pairs:
        if name not in by_name:
            wanted = f"want one of {', '.join(by_name)}" if by_name else "there are none here"
            raise BadRequest(f"{_printable(name)}: no such parameter; {wanted}")
        if name in arguments:
            raise BadRequest(f"{name} was sent twice")
        try:
            arguments[name] = by_name[name].read(text)
        except ValueError as error:
            raise BadRequest(f"{name}: {error}") from None
    return arguments


def asks_for(query: str, names: Iterable[str]) -> bool:
    """Returns whether any of these parameters is in a query, whatever else is wrong with it."""
    return any(name in names for name, _ in parse_qsl(query, keep_blank_values=True, errors="replace"))


def check_alone(arguments: Mapping[str, Any], one: Iterable[str], others: Iterable[str]) -> None:
    """Refuses a query with a parameter of each of two sets that exclude each other."""
    first, second = (next((name for name in names if name in arguments), None) for names in (one, others))
    if first and second:
        raise BadRequest(f"{first}: not together with {second}")


def _printable(name: str) -> str:
    return name[:64].encode("unicode_escape").decode()


# A label may be empty, which our paths cannot show, or a dot-segment, which clients remove (RFC 3986, 5.2.4). So these
# have a hyphen before them, and so has any label that begins with hyphens and goes on as one of these.
_SHIFTED = ("", ".", "..")


def segment_of(label: str) -> str:
    """Writes a label as a segment of a path, before it is percent-encoded: "-" for ""."""
    return f"-{label}" if label.lstrip("-") in _SHIFTED else label


def label_of(segment: str) -> str:
    """Reads the label of a segment: "" for "-"."""
    return segment[1:] if segment.lstrip("-") in _SHIFTED else segment


def labels_of(segments: Sequence[str]) -> Labels:
    """Reads the labels of the four segments that name a series."""
    return Labels(*map(label_of, segments))


MAX_NAMES = 100
SAMPLE_NAME = "[a-zA-Z_:][a-zA-Z0-9_:]{0,99}"
SAMPLE_NAMES = Parameter(
    "name[]",
    "Names of the samples to show, such as model_accuracy_ratio; without any, all.",
    {"type": "array", "items": {"type": "string", "pattern": f"^{SAMPLE_NAME}$"}, "maxItems": MAX_NAMES},
    str,
)


def sample_names(text: str) -> tuple[str, ...]:
    """Reads the names of samples that a scrape asks for, each once, in order. What else a scraper sends is its own.

    >>> sample_names("name[]=model_support&name[]=model_accuracy_ratio&module=x")
    ('model_accuracy_ratio', 'model_support')

    Raises:
        BadRequest: there are too many, or one is no name.
    """
    names = [value for name, value in parse_qsl(text, keep_blank_values=True) if name == SAMPLE_NAMES.name]
    if len(names) > MAX_NAMES or not all(re.fullmatch(SAMPLE_NAME, name) for name in names):
        raise BadRequest(f"{SAMPLE_NAMES.name}: want at most {MAX_NAMES} names of samples")
    return tuple(sorted({*names}))
