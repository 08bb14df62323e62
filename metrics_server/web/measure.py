"""Measures: values of a series that are one number a window, and so can be followed over time and compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import UNSET

from metrics_server.api.responses import class_order
from metrics_server.api.schema import MetricValue
from metrics_server.metrics.model import VOCABULARIES_DIFFER

_DETAILS = frozenset(("class", "value"))  # labels of a value that is one of many
CLASS_SHARE, OUTPUT_MEAN = "model_predicted_class_ratio", "model_output_mean"
_NO_MEASURES = ("model_support", f"model_{VOCABULARIES_DIFFER}")


def key_of(value: MetricValue) -> str:
    """Names a measure in an address, as Prometheus writes it: `model_ndcg{k="10"}`."""
    labels = ",".join(f'{name}="{label}"' for name, label in value.labels.items())
    return f"{value.name}{{{labels}}}" if labels else value.name


def measures_of(values: Iterable[MetricValue]) -> dict[str, MetricValue]:
    """Selects the measures among values, by their key; those that repeat others come last."""
    measures = (value for value in values if value.name not in _NO_MEASURES and not value.labels.keys() & _DETAILS)
    return {key_of(value): value for value in sorted(measures, key=is_repeated)}


def class_shares_of(values: Iterable[MetricValue]) -> dict[str, MetricValue]:
    """Selects the shares of the predicted classes among values, by their key, in the order of the classes."""
    shares = (value for value in values if value.name == CLASS_SHARE)
    return {key_of(value): value for value in sorted(shares, key=lambda value: class_order(value.labels["class"]))}


def unlabelled(measures: Collection[str]) -> str | None:
    """Returns the measure that tells the most of a model that nobody labels: the mean of its outputs, if it has one;
    the share of its first class, if that is among them.
    """
    shares = (key for key in measures if key.startswith(CLASS_SHARE))
    return OUTPUT_MEAN if OUTPUT_MEAN in measures else next(shares, next(iter(measures), None))


def is_repeated(value: MetricValue) -> bool:
    """Returns whether a value repeats another.

    Micro averages repeat the accuracy where each pair has one label; then they have no interval.
    """
    return "_micro_" in value.name and value.lower is UNSET
