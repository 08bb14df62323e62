"""Measures: those values of a series that are one number by window, and so can be followed over time and compared."""

from __future__ import annotations

from collections.abc import Iterable

from metrics_server.api_answer import Value

_DETAILS = frozenset(("class", "value"))  # labels of a value that is one of many
_SUPPORT = "model_support"


def key_of(value: Value) -> str:
    """The measure in an address, written as Prometheus does."""
    labels = ",".join(f'{name}="{label}"' for name, label in value.labels.items())
    return f"{value.name}{{{labels}}}" if labels else value.name


def measures_of(values: Iterable[Value]) -> dict[str, Value]:
    """The measures among values, by their key."""
    return {key_of(value): value for value in values if value.name != _SUPPORT and not value.labels.keys() & _DETAILS}


def headline_among(values: Iterable[Value], name: str | None) -> Value | None:
    """The headline, of which an answer of the API tells the name: the first that has it."""
    return next((value for value in values if value.name == name), None)
