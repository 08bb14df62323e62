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
# Matches values that a model has once, and not those of single classes, values, ranks or quantiles.
UNDETAILED = ('class=""', 'value=""', 'k=""', 'q=""')


class Query(NamedTuple):
    """A query and the legend of its series."""

    expression: str
    legend: str = ""


def chosen(name: str, *matchers: str, predictor: str = CHOSEN) -> str:
    """Selects the series of the models that the variables choose; an empty name means any.

    Slices are left out unless a matcher asks for them.
    """
    values = {choice: f"${choice}" for choice in CHOICES} | {"predictor": predictor}
    labels = [f'{label}=~"{values[choice]}"' for choice, label in CHOICES.items()]
    slices = () if any(matcher.startswith("slice") for matcher in matchers) else (_NO_SLICE,)
    return f"{name}{{{', '.join((*labels, *slices, *matchers))}}}"


def of_any_name(pattern: str, *matchers: str) -> str:
    """Selects the gauges of the chosen window whose full names match a pattern."""
    return chosen("", f'__name__=~"{pattern}"', WINDOW, *matchers)


def each_model(expression: str, *labels: str) -> str:
    """Takes each model once, however many replicas expose it; further labels are kept."""
    return f"max by ({', '.join((*SERIES_LABELS, *labels))}) ({expression})"


def gauge(name: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Returns the query of a gauge in the chosen window."""
    return each_model(chosen(name, WINDOW, *matchers), *labels)


def rate(name: str, *labels: str, matchers: tuple[str, ...] = (), predictor: str = CHOSEN) -> str:
    """Returns the query of a counter of models, per second."""
    return each_model(f"rate({chosen(name, *matchers, predictor=predictor)}{RATE})", *labels)


def net(applied: str, taken_back: str) -> str:
    """Returns the query of what stands of a counter: what was applied, less what was taken back.

    A series of which nothing can be taken back, or nothing was yet, may have no such counter.
    """
    return f"{applied} - ({taken_back} or 0 * {applied})"


def net_rate(name: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Returns the query of what stands of a counter of models, per second; its name is without `_total`."""
    applied, taken_back = (rate(f"{name}{end}_total", *labels, matchers=matchers) for end in ("", "_retracted"))
    return net(applied, taken_back)


def by(labels: str, expression: str) -> str:
    """Sums the series that agree in these labels."""
    return f"sum by ({labels}) ({expression})"


def quantile(q: float, name: str, *labels: str, predictor: str = CHOSEN) -> str:
    """Returns the query of a quantile of a histogram of models, over the latest observations."""
    grouping = ", ".join(("le", *labels))
    return f"histogram_quantile({q}, {by(grouping, rate(f'{name}_bucket', 'le', predictor=predictor))})"


def custom(*names: str) -> str:
    """Returns the query of the sum of custom metrics of each chosen model, be they gauges or counters.

    A counter is exposed only once the model has counted, so one that is absent is 0. The label of the namespace is one
    that the server adds: what is scraped from the models themselves is left out.
    """
    labels = CHOICES | {"namespace": "seldon_deployment_namespace"}
    chosen_by = ", ".join(f'{label}=~"${choice}"' for choice, label in labels.items())
    grouping = ", ".join(labels.values())
    selected = f'{{__name__=~"(?:{"|".join(names)})(?:_total)?", {chosen_by}}}'
    return by(grouping, f"max by (__name__, {grouping}) ({selected})")


def own(name: str, *matchers: str) -> str:
    """Selects series of the server's own telemetry."""
    return f"{name}{{{', '.join((_JOB, *matchers))}}}"


def own_rate(name: str, labels: str = "", *matchers: str) -> str:
    """Returns the query of a counter of the server, per second, added up over its processes."""
    rates = f"rate({own(name, *matchers)}{RATE})"
    return by(labels, rates) if labels else f"sum({rates})"


def age(name: str) -> str:
    """Returns the query of the seconds since a time that is the value of a gauge of models."""
    return f"time() - {each_model(chosen(name))}"
