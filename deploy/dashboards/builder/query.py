"""PromQL of the panels.

Replicas on a shared store show equal series of a model, so the series of one model are taken by `max`, whatever labels
scraping added. The server's own series are of one process each, and are added up.
"""

from __future__ import annotations

from typing import NamedTuple

from metrics_server.series.families import SERIES_LABELS

RATE = "[$__rate_interval]"
WINDOW = 'window="$window"'
CHOSEN = "$predictor"
# The variables that choose a series, and the labels they choose by.
CHOICES = dict(zip(("namespace", "deployment", "predictor", "model"), SERIES_LABELS, strict=True))
_NO_SLICE = 'slice=""'
_JOB = 'job=~"$job"'
# A value that is one for the whole model, and not one of many.
WHOLE = ('class=""', 'value=""', 'k=""', 'q=""')


class Query(NamedTuple):
    """A query and the legend of its series."""

    expression: str
    legend: str = ""


def chosen(name: str, *matchers: str, predictor: str = CHOSEN) -> str:
    """The series of the models that the variables choose, without slices unless a matcher asks for them; no name means
    any.
    """
    values = {choice: f"${choice}" for choice in CHOICES} | {"predictor": predictor}
    labels = [f'{label}=~"{values[choice]}"' for choice, label in CHOICES.items()]
    slices = () if any(matcher.startswith("slice") for matcher in matchers) else (_NO_SLICE,)
    return f"{name}{{{', '.join((*labels, *slices, *matchers))}}}"


def of_any_name(pattern: str, *matchers: str) -> str:
    """The gauges, in the window that is chosen, whose names match the whole of a pattern."""
    return chosen("", f'__name__=~"{pattern}"', WINDOW, *matchers)


def each_model(expression: str, *labels: str) -> str:
    """The same of each model once, however many replicas show it, by these labels besides."""
    return f"max by ({', '.join((*SERIES_LABELS, *labels))}) ({expression})"


def gauge(name: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """A gauge in the window that is chosen."""
    return each_model(chosen(name, WINDOW, *matchers), *labels)


def rate(name: str, *labels: str, matchers: tuple[str, ...] = (), predictor: str = CHOSEN) -> str:
    """A model's counter, per second."""
    return each_model(f"rate({chosen(name, *matchers, predictor=predictor)}{RATE})", *labels)


def by(labels: str, expression: str) -> str:
    """The sum of what has the same labels."""
    return f"sum by ({labels}) ({expression})"


def quantile(q: float, name: str, *labels: str, predictor: str = CHOSEN) -> str:
    """A quantile of a model's histogram, of what was observed lately."""
    kept = ", ".join(("le", *labels))
    return f"histogram_quantile({q}, {by(kept, rate(f'{name}_bucket', 'le', predictor=predictor))})"


def own(name: str, *matchers: str) -> str:
    """The server's own series."""
    return f"{name}{{{', '.join((_JOB, *matchers))}}}"


def own_rate(name: str, labels: str = "", *matchers: str) -> str:
    """The server's own counter, per second, added up over its processes."""
    rates = f"rate({own(name, *matchers)}{RATE})"
    return by(labels, rates) if labels else f"sum({rates})"


def age(name: str) -> str:
    """Seconds since a moment that a model's gauge gives."""
    return f"time() - {each_model(chosen(name))}"
