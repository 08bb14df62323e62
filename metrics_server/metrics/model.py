"""What a metric model is, and how one is loaded from a dotted path.

A model is two pure functions over sums. It owns no state, so there is nothing to merge, persist or correct in it:

    class MeanAbsoluteError:
        task = "regression"

        def increments(self, y_true, y_pred):
            return {"pairs": float(y_true.size), "abs_error": float(abs(y_true - y_pred).sum())}

        def compute(self, sums):
            if pairs := sums.get("pairs"):
                yield Sample("mean_absolute_error", {}, sums["abs_error"] / pairs)
"""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from metrics_server.errors import BadConfiguration
from metrics_server.metrics.confidence import Interval
from metrics_server.metrics.sums import SEPARATOR, Sums, component

Array = npt.NDArray[Any]

# The ancestor's names, which manifests in the field carry (note its spelling of "MultiClass" and "Multiclass").
ANCESTOR_PREFIX = "adserver.cm_models."

SELDON_PREFIX = "seldon_metric_"

OTHER_CLASSES = "__other__"  # stands for the classes beyond a limit

# Yielded next to the headline, while no pair can be right because one side is indexes and the other names. The label
# "indexes" says which.
VOCABULARIES_DIFFER = "vocabularies_differ"


class Sample(NamedTuple):
    """A named value with labels; the server adds the labels of the series, and `window` to a gauge.

    Attributes:
        interval: the ends of its 95 % interval, where there is one.
        support: how many pairs it rests on (of a class, say, those that matter for it), or the sum of their weights;
            None for all of the window.
    """

    name: str
    labels: Mapping[str, str]
    value: float
    interval: Interval | None = None
    support: float | None = None


class GaugeSpec(NamedTuple):
    """What the gauge `model_<name>` means, for a sample that `compute` yields under that name.

    >>> GaugeSpec("Mean cost of a decision.", has_interval=True, better=-1)
    GaugeSpec(help='Mean cost of a decision.', labels=(), has_interval=True, better=-1)

    Attributes:
        help: one sentence or two, on one line; "By prediction time, in the window." is added.
        labels: those of its samples.
        has_interval: whether the ends of its 95 % interval are gauges too, `model_<name>_lower` and `_upper`.
        better: 1 if more of it is better, -1 if less is, 0 if neither.
    """

    help: str
    labels: tuple[str, ...] = ()
    has_interval: bool = False
    better: int = 0


class CounterSpec(NamedTuple):
    """Says what the counters `model_<name>_total` and `model_<name>_retracted_total` mean, for a sample of `counts`.

    Attributes:
        help: of what was applied, on one line; "By arrival of the label." is added.
        retracted_help: the same of what corrections took back.
        labels: those of its samples.
    """

    help: str
    retracted_help: str
    labels: tuple[str, ...] = ()


Families: TypeAlias = "Mapping[str, GaugeSpec | CounterSpec]"  # by the names of samples


@runtime_checkable
class MetricModel(Protocol):
    """Turns labelled predictions into sums, and sums into values. Holds no state.

    An optional attribute `task` says what arrays `increments` wants (see `metrics_server.metrics.task`): "binary",
    "multiclass", "regression" or another of its table, or by default "any": rows as they came, one call for each
    combination of kinds.

    An optional attribute `families` says what its samples mean: a mapping from their names to a `GaugeSpec` or, for
    what `counts` yields, a `CounterSpec`. A name means the same in all models. What is not declared has a general help
    text, and neither direction is better.

    A model never sees weights: a pair of weight w contributes w times its increments, and
    `metrics_server.metrics.confidence` says how intervals take that into account.
    """

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Sums of these pairs. Both arrays have the same first dimension n >= 0; additive over any split of the
        rows.
        """

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """Values as gauges, read from the sums of a window. Yields nothing that is undefined."""


@runtime_checkable
class Counting(Protocol):
    """A model whose sums can also be read as counters, from the cumulative ones that only grow.

    An optional attribute `counted`, a tuple of prefixes, says which components these need; by default all are kept
    there.
    """

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """Values for `model_<name>_total` and, of what corrections took back, `model_<name>_retracted_total`."""


@runtime_checkable
class Tabular(Protocol):
    """A model whose sums also hold curves, which the JSON API shows."""

    def tables(self, sums: Sums) -> Mapping[str, list[dict[str, str | float]]]:
        """Rows by the name of the table, such as "reliability"; a column that is undefined in a row is left out."""


@runtime_checkable
class AncestorCounting(Protocol):
    """A model that can also be read in the ancestor's vocabulary."""

    def ancestor_counts(self, sums: Sums) -> Iterable[Sample]:
        """Values for `<name>_total`, with the ancestor's names and its meaning, over the first truth of each
        prediction.
        """


class TransformAdapter:
    """Lets a class of the ancestor's form, `transform(truth, response, request=None)`, serve as a metric model.

    `transform` is called once a row with one-row arrays and returns something with `.metrics`, a list of
    {"key", "type", "value", "tags"?}. COUNTER values are summed under their key and tags. A GAUGE or TIMER is no sum:
    it cannot be merged, windowed or corrected, so those are left out.
    """

    task = "any"

    def __init__(self, ancestor: Any) -> None:
        self.ancestor = ancestor

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Sums of the counters, one component for each key and set of tags."""
        sums: dict[str, float] = {}
        for truth, response in zip(y_true, y_pred, strict=True):
            for metric in self._metrics(np.atleast_1d(truth), np.atleast_1d(response)):
                if metric.get("type", "COUNTER") == "COUNTER":
                    tags = sorted((metric.get("tags") or {}).items())
                    name = component(
                        "counter",
                        str(metric["key"]).removesuffix("_total"),
                        *(part for tag in tags for part in map(str, tag)),
                    )
                    sums[name] = sums.get(name, 0.0) + float(metric["value"])
        return sums

    def _metrics(self, truth: Array, response: Array) -> Iterable[Mapping[str, Any]]:
        result = self.ancestor.transform(truth, response)
        return getattr(result, "metrics", result) or []

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """Nothing: this form only counts."""
        return ()

    def ancestor_counts(self, sums: Sums) -> Iterable[Sample]:
        """The counters under the keys that the class gave them."""
        for name, value in sums.items():
            kind, _, rest = name.partition(SEPARATOR)
            if kind == "counter":
                key, *tags = rest.split(SEPARATOR)
                yield Sample(key, dict(zip(tags[::2], tags[1::2], strict=True)), value)


def path_of(storage_uri: str) -> str:
    """The dotted path meant by --storage_uri: the ancestor's names are aliases of ours."""
    if storage_uri.startswith(ANCESTOR_PREFIX):
        return "cm_models." + storage_uri.removeprefix(ANCESTOR_PREFIX)
    return storage_uri


def load(storage_uri: str, parameters: Mapping[str, Any] | None = None, *, allow_pickle: bool = False) -> MetricModel:
    """The metric model named by a dotted path, built with those parameters that its constructor takes.

    Raises:
        BadConfiguration: it cannot be imported, is of neither form, or is a pickle and those are not allowed.
    """
    if "://" in storage_uri:
        raise BadConfiguration(
            f"--storage_uri {storage_uri}: remote locations are not fetched; put the class on the Python path"
        )
    if "/" in storage_uri:
        return _adapted(storage_uri, _unpickled(storage_uri, allow_pickle=allow_pickle))
    module_name, _, class_name = path_of(storage_uri).rpartition(".")
    if not module_name:
        raise BadConfiguration(f"--storage_uri {storage_uri}: want auto, or module.Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadConfiguration(
            f"--storage_uri {storage_uri}: {error}; want auto, one of cm_models.*, or a class on the Python path"
        ) from error
    return _adapted(storage_uri, _made(storage_uri, found, parameters or {}) if isinstance(found, type) else found)


def _made(storage_uri: str, found: type, parameters: Mapping[str, Any]) -> Any:
    try:
        taken = inspect.signature(found).parameters
        return found(**{name: value for name, value in parameters.items() if name in taken})
    except Exception as error:  # a user's constructor may raise anything
        raise BadConfiguration(f"--storage_uri {storage_uri}: it cannot be made without arguments: {error}") from error


def _adapted(storage_uri: str, model: Any) -> MetricModel:
    if isinstance(model, MetricModel):
        return model
    if callable(getattr(model, "transform", None)):
        return TransformAdapter(model)
    raise BadConfiguration(f"--storage_uri {storage_uri}: want a class with increments and compute, or with transform")


def _unpickled(storage_uri: str, *, allow_pickle: bool) -> Any:
    if not allow_pickle:
        raise BadConfiguration(
            f"--storage_uri {storage_uri} is a pickle, which can run any code; pass --allow_pickle to load it"
        )
    path = Path(storage_uri)
    path = path / "meta.pickle" if path.is_dir() else path
    try:
        return pickle.loads(path.read_bytes())  # noqa: S301 - only with --allow_pickle, only from the operator's own disk
    except Exception as error:  # unpickling runs foreign code, which may raise anything
        raise BadConfiguration(f"--storage_uri {storage_uri}: {error}") from error
