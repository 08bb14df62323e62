"""The families that are exposed: every name with its type and help, in one table that docs and exposition share.

Those that the server keeps of every series stand here. Those of a metric model stand in its class, as `families`, and
come into the table when it is loaded; of our own models they are there from the start.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from metrics_server.errors import BadConfiguration
from metrics_server.metrics.model import CounterSpec, Families, GaugeSpec, MetricModel
from metrics_server.metrics.task import model_of
from metrics_server.metrics.value import GAUGES as OF_VALUE

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

PREFIX = "model_"  # of the name of a metric outside of its model
SERIES_LABELS = ("deployment_namespace", "deployment_name", "predictor_name", "model_name")

# Of the server's own series. What a class of the ancestor's form counts is exposed under the name that it gives.
TELEMETRY_PREFIX = "metrics_server_"

_WINDOW = "By prediction time, in the window."
_ARRIVAL = "By arrival of the label."

_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = {*SERIES_LABELS, "slice", "window", "le"}
_NOT_IN_HELP = re.compile(r'[\x00-\x1f\x7f"\\]')  # what the formats of the page escape, each in its own way


class Family(NamedTuple):
    """A metric family: its type, its help text, the labels it has beside those of the series, and which way is up.

    Attributes:
        better: 1 if more of it is better, -1 if less is, 0 if neither.
    """

    type: str
    help: str
    labels: tuple[str, ...] = ()
    better: int = 0


def _with_retracted(name: str, help_text: str, clock: str, labels: tuple[str, ...] = ()) -> dict[str, Family]:
    """A counter and that of what was taken back of it: less that, it is what stands."""
    return {
        name: Family(COUNTER, f"{help_text} {clock}", labels),
        f"{name}_retracted": Family(COUNTER, f"Of {name}_total, what was taken back. By arrival.", labels),
    }


# `slice` is the group; a rate with a class has that too.
GROUP_LABELS = ("window", "slice", "reference", "rate", "class")


def _compared_with_reference(measure: str, words: str) -> dict[str, Family]:
    """The comparison of a rate of a group, and the ends of its interval."""
    name = f"model_group_{measure}"
    ends = {
        f"{name}_{end}": Family(
            GAUGE, f"{word} end of the 95 % interval of {name}, for one look. {_WINDOW}", GROUP_LABELS
        )
        for end, word in (("lower", "Lower"), ("upper", "Upper"))
    }
    return {name: Family(GAUGE, f"A rate of a group {words}; with --expose_groups. {_WINDOW}", GROUP_LABELS), **ends}


_SERIES: dict[str, Family] = {
    "model_predictions": Family(COUNTER, "Rows seen in the request log, by arrival."),
    **_with_retracted(
        "model_predicted_class", "Rows seen in the request log by predicted class.", "By arrival.", ("class",)
    ),
    **_with_retracted("model_labels", "Rows of truth by what became of them.", _ARRIVAL, ("status",)),
    **_with_retracted("model_rewards", "Feedback that carried a reward.", "By arrival."),
    **_with_retracted(
        "model_reward_values", "The same by the reward, of whole numbers from -10 to 10.", "By arrival.", ("value",)
    ),
    "model_label_coverage_ratio": Family(
        GAUGE,
        "Labelled rows by rows of the request log; absent when nothing was logged, or more was labelled than logged. "
        + _WINDOW,
        ("window",),
    ),
    "model_label_delay_seconds": Family(
        HISTOGRAM,
        f"From the prediction to its first label, of rows of the request log, by the times of both events. {_ARRIVAL}",
    ),
    "model_prediction_latency_seconds": Family(
        HISTOGRAM,
        "From the request event to the response event, by the times of both; of those that came close"
        " together. By arrival.",
    ),
    "model_last_prediction_timestamp_seconds": Family(GAUGE, "When the last row of the request log arrived."),
    "model_last_label_timestamp_seconds": Family(GAUGE, "When the last label that met a prediction arrived."),
    "model_support": Family(GAUGE, f"Labelled predictions. {_WINDOW}", ("window",)),
    "model_objective": Family(GAUGE, "What the value is to be at least, of an error at most.", ("metric",)),
    "model_degraded": Family(
        GAUGE,
        "1 while the evidence that the objective is missed is enough for an alarm, with the accepted number of false"
        " alarms a year; else 0.",
        ("metric",),
    ),
    "model_degradation_evidence": Family(
        GAUGE, "log10 of the evidence of the last 8 days that the objective is missed, over its threshold.", ("metric",)
    ),
    "model_degraded_since_timestamp_seconds": Family(
        GAUGE, "When the evidence begins; absent while there is none.", ("metric",)
    ),
    "model_canary_difference": Family(
        GAUGE,
        "How much better the predictor is than its baseline, of an error how much smaller, in its headline metric since"
        " both were there.",
        ("baseline", "metric"),
        better=1,
    ),
    **{
        f"model_canary_difference_{end}": Family(
            GAUGE,
            f"{end.title()} end of the 95 % interval of model_canary_difference that holds at all looks together.",
            ("baseline", "metric"),
        )
        for end in ("lower", "upper")
    },
    "model_canary_verdict": Family(
        GAUGE,
        "1 for what the labels say of the predictor against its baseline, at every look: better, worse, equivalent,"
        " undecided or incomparable; else 0.",
        ("baseline", "verdict"),
    ),
    **_compared_with_reference("difference", "less that of the reference"),
    **_compared_with_reference("ratio", "by that of the reference"),
    "model_group_holm_p_value": Family(
        GAUGE,
        f"Of the test that a rate of a group is that of the reference, for all groups together. {_WINDOW}",
        GROUP_LABELS,
    ),
}

# What the server says of every series as a metric model does of its pairs.
_GAUGES: dict[str, GaugeSpec] = {
    "reward_mean": GaugeSpec("Mean reward.", has_interval=True, better=1),
    "reward_ratio": GaugeSpec("Share of rewards that are this whole number, from -10 to 10.", ("value",)),
    "output_mean": GaugeSpec("Mean of numeric predictions in the request log, labelled or not.", has_interval=True),
    "output_min": GaugeSpec("Smallest numeric prediction in the request log, to 2.5 %."),
    "output_max": GaugeSpec("Largest numeric prediction in the request log, to 2.5 %."),
    "output_quantile": GaugeSpec("Quantile of numeric predictions in the request log, to 2.5 %.", ("q",)),
    "predicted_class_ratio": GaugeSpec(
        "Share of predictions in the request log that are this class, labelled or not.", ("class",)
    ),
    **OF_VALUE,
}

_SELDON = (
    "Counted as Seldon's MetricsServer does, once for each prediction by its first scorable truth; what is taken back"
    " moves only model_ series. {}"
)
SELDON: dict[str, Family] = {
    "seldon_metric_true_positive": Family(COUNTER, _SELDON.format("Truth and prediction are this class."), ("class",)),
    "seldon_metric_true_negative": Family(
        COUNTER,
        _SELDON.format("For classes the same number as true_positive, as existing dashboards expect."),
        ("class",),
    ),
    "seldon_metric_false_positive": Family(
        COUNTER, _SELDON.format("Predicted as this class, and is another."), ("class",)
    ),
    "seldon_metric_false_negative": Family(
        COUNTER, _SELDON.format("Is this class, and was predicted as another."), ("class",)
    ),
}


def _families(name: str, spec: GaugeSpec | CounterSpec) -> Iterator[tuple[str, Family]]:
    """The families that samples of this name become."""
    if isinstance(spec, CounterSpec):
        yield f"model_{name}", Family(COUNTER, f"{spec.help} {_ARRIVAL}", spec.labels)
        yield f"model_{name}_retracted", Family(COUNTER, f"{spec.retracted_help} {_ARRIVAL}", spec.labels)
        return
    labels = ("window", *spec.labels)
    yield f"model_{name}", Family(GAUGE, f"{spec.help} {_WINDOW}", labels, spec.better)
    for end, word in (("lower", "Lower"), ("upper", "Upper")) if spec.has_interval else ():
        help_text = f"{word} end of the 95 % interval of model_{name}. {_WINDOW}"
        yield f"model_{name}_{end}", Family(GAUGE, help_text, labels)


# Every family of the server and of the metric models that were loaded; and those that are the server's own.
MODEL: dict[str, Family] = _SERIES | {
    family: made for name, spec in _GAUGES.items() for family, made in _families(name, spec)
}
SERVER = frozenset(MODEL)

# By the name of a sample of a metric model the labels that were declared for it.
DECLARED: dict[str, AbstractSet[str]] = {}

_owners: dict[str, str] = {}  # which metric model declared a family
_registered: set[type] = set()


def register(model: type) -> None:
    """Takes the families of a metric model into the table.

    Raises:
        BadConfiguration: one cannot be exposed, is the server's, or was declared otherwise by another metric model.
    """
    if model in _registered:  # a series makes its model anew for each class it meets
        return
    owner = f"{model.__module__}.{model.__qualname__}"
    declared: Families = getattr(model, "families", {})
    if not isinstance(declared, Mapping):
        raise BadConfiguration(f"{owner}: its families are {declared!r}; want a mapping from names to specs")
    for name, spec in declared.items():
        if (fault := _fault(name, spec)) is not None:
            raise BadConfiguration(f"{owner}: its family {name!r} {fault}")
    made = [(name, family) for name, spec in declared.items() for name, family in _families(name, spec)]
    _check_owners(owner, made)
    MODEL.update(made)
    _owners.update((name, owner) for name, _ in made if name not in _owners)
    DECLARED.update((name, frozenset(spec.labels)) for name, spec in declared.items())
    _registered.add(model)


def _check_owners(owner: str, made: Sequence[tuple[str, Family]]) -> None:
    for name, family in made:
        first = _owners.get(name, owner)
        if first != owner and MODEL[name] != family:
            raise BadConfiguration(
                f"{owner} and {first} declare the family {name} differently: {family} is not {MODEL[name]}; "
                "rename one, or declare it the same"
            )


def _fault(name: object, spec: object) -> str | None:
    """Why a declaration cannot be taken; None if it can."""
    if not isinstance(spec, (GaugeSpec, CounterSpec)):
        return f"is declared as {spec!r}; want a GaugeSpec or a CounterSpec"
    if not is_exposable(name, spec.labels):
        return f"or one of its labels {spec.labels!r} is no name, or is the server's"
    texts = (spec.help, spec.retracted_help) if isinstance(spec, CounterSpec) else (spec.help,)
    if not all(isinstance(text, str) and not _NOT_IN_HELP.search(text) for text in texts):
        return "has a help text that is not one line of text without backslashes and double quotes"
    if isinstance(spec, GaugeSpec) and spec.better not in (1, 0, -1):
        return f"has {spec.better!r} as better; want 1, 0 or -1"
    return None


def is_exposable(name: object, labels: Collection[object]) -> bool:
    """Tells whether a metric model may yield a sample of this name with these labels."""
    names = all(isinstance(each, str) and _NAME.fullmatch(each) for each in (name, *labels))
    is_free = f"model_{name}" not in SERVER and not str(name).startswith(TELEMETRY_PREFIX)
    return names and is_free and not _RESERVED.intersection(labels)


def register_package(name: str) -> None:
    """Takes the families of all metric models of a package into the table, which imports them all."""
    package = importlib.import_module(name)
    for found in pkgutil.iter_modules(package.__path__, f"{name}."):
        for model in vars(importlib.import_module(found.name)).values():
            if isinstance(model, type) and model.__module__ == found.name and hasattr(model, "families"):
                register(model)


# The page, the docs and the dashboards tell of all there are, and a name of theirs has one meaning.
register_package("cm_models")


def model_at(
    path: str, parameters: Mapping[str, object], *, max_exported_classes: int, allow_pickle: bool
) -> MetricModel:
    """The metric model at a dotted path, made with these parameters; its families are in the table from then on.

    Raises:
        BadConfiguration: it cannot be loaded, its task is none of the table, or its families cannot be taken.
    """
    model = model_of(path, {**parameters, "max_exported_classes": max_exported_classes}, allow_pickle=allow_pickle)
    register(type(model))
    return model


def series_labels(labels: Iterable[str]) -> dict[str, str]:
    """The labels of a series as they are exposed."""
    return dict(zip(SERIES_LABELS, labels, strict=True))


def direction_of(name: str) -> int:
    """1 if more of the value of this name is better, -1 if less is, 0 if neither or if no metric model declares it."""
    return MODEL[name].better if name in MODEL else 0


def custom_family(name: str, kind: str) -> Family:
    """The family of custom metrics of this name."""
    return Family(kind, f"{name} as models tell it in meta.metrics of their responses. By arrival.")


def is_known(name: str, kind: str) -> bool:
    """Tells whether a family of this name and type is the server's, or declared by a metric model."""
    known = MODEL.get(name) or SELDON.get(name)
    return known is not None and known.type == kind


def family_of(name: str, kind: str) -> Family:
    """The family of this name; of one that no metric model declares, a general one."""
    known = MODEL.get(name) or SELDON.get(name)
    clock = _WINDOW if kind == GAUGE else _ARRIVAL
    return known or Family(kind, f"{name} of a metric model of this deployment. {clock}")
