"""Custom metrics: what a model says of itself in the `meta.metrics` of its responses, as Seldon's wrappers have them.

Sums:
    custom / counter / key / tags: what was counted. custom / timer / key / tags: a duration histogram, see
    `duration_histogram`. A gauge is no sum: the store has its latest value in a register of such a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from metrics_server.metrics.sums import SEPARATOR, component

MOST_IN_SERIES = 100  # metrics, told apart by key and tags
MOST_KEYS = 100  # of a server

# Prometheus' data model. The prefixes are those of families of ours, and of what Prometheus keeps for itself.
NAME_PATTERN = "(?!model_|metrics_server_|seldon_metric_|__)[a-zA-Z_:][a-zA-Z0-9_:]*"
ALL = "*"  # in a set of names: any
TOTAL = "_total"
_NAME = re.compile(NAME_PATTERN)
_TAG = re.compile("(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

# The label that Seldon's wrapper puts among the tags of a metric that has any, by what of the model was called.
METHOD, PREDICT = "method", "predict"
# The labels that the wrapper gives to all metrics beside it, and that of the buckets of a histogram.
WRAPPER_LABELS = (
    "deployment_name",
    "image_name",
    "image_version",
    "model_image",
    "model_name",
    "model_version",
    "predictor_name",
    "predictor_version",
    "seldon_deployment_name",
    "seldon_deployment_namespace",
    "worker_id",
)
_RESERVED = frozenset((*WRAPPER_LABELS, "le"))


class CustomType(StrEnum):
    """What the values of a custom metric are: added up, the latest one, or durations in milliseconds."""

    COUNTER = "counter"
    GAUGE = "gauge"
    TIMER = "timer"


Family: TypeAlias = "tuple[CustomType, str]"  # type and key


class CustomMetric(NamedTuple):
    """A custom metric: its type, its key and its tags, sorted.

    The key is the name of its family: that of a counter is without the suffix that its sample has.
    """

    type: CustomType
    key: str
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def component(self) -> str:
        """The name of its sums, or of its register."""
        return component("custom", self.type, self.key, json.dumps(self.tags, ensure_ascii=False))

    @property
    def family(self) -> Family:
        """The family that it is in."""
        return self.type, self.key

    @property
    def exposed_names(self) -> list[str]:
        """The names of its family and its samples, which no other family may have."""
        return exposed_names(self.key, _EXPOSED_TYPES[self.type])


# Types of families, as OpenMetrics names them, and the suffixes that it gives to their samples.
_EXPOSED_TYPES = {CustomType.COUNTER: "counter", CustomType.GAUGE: "gauge", CustomType.TIMER: "histogram"}
_SUFFIXES = {"counter": (TOTAL, "_created"), "gauge": (), "histogram": ("_bucket", "_count", "_sum", "_created")}


@lru_cache(10_000)
def exposed_names(name: str, exposed_type: str) -> list[str]:
    """Returns the names of a family and its samples, which no other family of a page may have (OpenMetrics 1.0).

    >>> exposed_names("calls", "counter")
    ['calls', 'calls_total', 'calls_created']
    """
    return [f"{name}{suffix}" for suffix in ("", *_SUFFIXES[exposed_type])]


class CustomSample(NamedTuple):
    """A value that a response has for a custom metric."""

    metric: CustomMetric
    value: float


@lru_cache(10_000)
def metric_of(name: str) -> CustomMetric:
    """Makes the metric of a component.

    >>> metric_of(CustomMetric(CustomType.GAUGE, "depth", (("queue", "a"),)).component).tags
    (('queue', 'a'),)
    """
    _, kind, key, tags = name.split(SEPARATOR)
    return CustomMetric(CustomType(kind), key, tuple((tag, value) for tag, value in json.loads(tags)))


def is_key(key: str) -> bool:
    """Tells whether a custom metric may have this key."""
    return _NAME.fullmatch(key) is not None


def is_tag(name: str) -> bool:
    """Tells whether a tag may have this name."""
    return _TAG.fullmatch(name) is not None and name not in _RESERVED


def family_key(kind: CustomType, key: str) -> str:
    """Makes the name of a family of a key, as prometheus_client does: counters have their suffix once.

    >>> family_key(CustomType.COUNTER, "calls_total")
    'calls'
    """
    return key.removesuffix(TOTAL) if kind is CustomType.COUNTER else key


def names_asked_for(names: Iterable[str]) -> frozenset[str]:
    """Makes the names for `takes` of those that a user gives, with the suffix of counters or without."""
    return frozenset(name.removesuffix(TOTAL) for name in names)


def takes(names: Collection[str], key: str) -> bool:
    """Tells whether a key is one of these names.

    >>> takes(names_asked_for(["calls_total"]), "calls"), takes(names_asked_for(["*"]), "anything")
    (True, True)
    """
    return key.removesuffix(TOTAL) in names or ALL in names
