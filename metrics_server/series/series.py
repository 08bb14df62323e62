"""Series: the unit that sums belong to.

A series is the labels of a prediction (namespace, deployment, predictor, model) and the configuration of its metric
model. Whatever else decides what a sum means (the model that `auto` chose, the classes that have a slot) is a
parameter, claimed in the store once and never changed: equal pairs always give equal increments, and a correction can
take back what it added.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from metrics_server.errors import BadConfiguration
from metrics_server.metrics import task
from metrics_server.metrics.custom_metric import MOST_IN_SERIES, CustomMetric, metric_of
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.model import OTHER_CLASSES, AncestorCounting, Counting, MetricModel
from metrics_server.metrics.task import Resolved, RowValue
from metrics_server.store.interface import StoredSeries

logger = logging.getLogger(__name__)

REVISION = 3  # of the sums of a series


class Labels(NamedTuple):
    """The origin of a prediction; an unknown label is ""."""

    namespace: str
    deployment: str
    predictor: str
    model: str

    @property
    def group(self) -> tuple[str, str, str]:
        """What the predictors that are compared share: namespace, deployment and model."""
        return self.namespace, self.deployment, self.model


class Scoring(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that scores the predictions of a series; part of the series' identity.

    `revision` numbers the components of the sums. Sums of an older revision lack components that newer values are
    computed from, and that a correction would take back: so they belong to another series.
    """

    storage_uri: str = "auto"
    threshold: float = 0.5
    class_names: tuple[str, ...] = ()
    max_classes: int = 1000
    revision: int = 1


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """The labels and the scoring of a series, and the name of a slice.

    Its id is a digest of these, the same in every process.
    """

    labels: Labels
    scoring: Scoring
    slice: str = ""  # such as "tenant=b 7"

    @property
    def encoded(self) -> bytes:
        """Encodes the identity as stores hold it."""
        scoring = msgspec.to_builtins(self.scoring)
        if scoring["revision"] == 1:  # the first had no number
            del scoring["revision"]
        return msgspec.json.encode((self.labels, scoring, *([self.slice] if self.slice else [])))

    @property
    def id(self) -> int:
        """The stored id, a signed integer of 64 bits."""
        return int.from_bytes(blake2b(self.encoded, digest_size=8).digest(), signed=True)


Build = Callable[[str, Mapping[str, object]], MetricModel]
Claims = dict[tuple[int, str], str]


@dataclass
class Series:
    """One series as a process holds it: identity, claimed parameters and the model built from them."""

    identity: Identity
    build: Build
    created_at: float
    seen_at: float
    parameters: dict[str, str] = field(default_factory=dict)
    predicted_at: float = 0.0  # when the last row of the request log arrived
    labelled_at: float = 0.0  # when the last label did
    classes: dict[str, None] = field(default_factory=dict)
    custom_metrics: dict[CustomMetric, None] = field(default_factory=dict)
    model: MetricModel | None = None
    task: str = ""  # of its metric model, "" before the first pair
    is_unusable: bool = False
    counted: tuple[str, ...] | None = None  # prefixes of its components in the cumulative sums

    def __post_init__(self) -> None:
        self.id = self.identity.id
        self.mark_persisted()
        self.classes = dict.fromkeys(self._claimed("class/"))
        self.custom_metrics = dict.fromkeys(map(metric_of, self._claimed("custom/")))
        if path := self.parameters.get("model"):
            try:
                self._build_model(path)
            except BadConfiguration as error:  # without its model no sum can be read or added: left as it is
                logger.warning("The series of %s cannot be scored: %s", "/".join(self.labels), error)
                self.is_unusable = True

    def _claimed(self, prefix: str) -> list[str]:
        """Lists what was claimed in numbered slots, in their order."""
        slots = sorted(int(name.removeprefix(prefix)) for name in self.parameters if name.startswith(prefix))
        return [self.parameters[f"{prefix}{slot}"] for slot in slots]

    @property
    def labels(self) -> Labels:
        """Returns whose numbers these are: namespace, deployment, predictor and model."""
        return self.identity.labels

    def needs_persist(self, seconds: float) -> bool:
        """Returns whether the stored times of the last use are older than the current ones, by so many seconds."""
        return (
            self.predicted_at - self._persisted_predicted_at >= seconds
            or self.labelled_at - self._persisted_labelled_at >= seconds
        )

    def mark_persisted(self) -> None:
        """Takes the current times of the last use for stored."""
        self._persisted_predicted_at, self._persisted_labelled_at = self.predicted_at, self.labelled_at

    def note_used(self, row: StoredSeries) -> None:
        """Notes when another writer used it, as that has stored."""
        self.seen_at = max(self.seen_at, row.seen_at)
        self.predicted_at = max(self.predicted_at, row.predicted_at)
        self.labelled_at = max(self.labelled_at, row.labelled_at)
        self.mark_persisted()

    def to_row(self) -> StoredSeries:
        """Returns the row of the series in a store, without parameters: those are claimed."""
        return StoredSeries(
            self.id, self.identity.encoded, self.created_at, self.seen_at, {}, self.predicted_at, self.labelled_at
        )

    def resolve(self, truth: RowValue, prediction: RowValue, claims: Claims, *, is_flat: bool = False) -> Resolved:
        """Returns the pair as its metric model takes it, or the status of a pair that cannot be scored.

        The first pair chooses the model; each pair claims what its sums depend on. A truth that was sent as a flat list
        is scored only if that may be a row of its task.
        """
        if is_flat and not self._takes_as_row(truth, claims):
            return LabelStatus.UNSCORABLE
        if self.is_unusable or (self.model is None and not self._choose_model(truth, prediction, claims)):
            return LabelStatus.UNSCORABLE
        resolved = task.TASKS[self.task](truth, prediction, self.identity.scoring.class_names)
        if not isinstance(resolved, str):
            self._claim_parameters(resolved, claims)
        return resolved

    def _takes_as_row(self, truth: RowValue, claims: Claims) -> bool:
        if self.model is None and self.identity.scoring.storage_uri != "auto" and not self.is_unusable:
            self._choose_model(None, None, claims)
        return isinstance(truth, list) and task.is_row(truth, self.task)

    def adopt_parent_model(self, parent: Series, resolved: tuple[RowValue, RowValue], claims: Claims) -> None:
        """Takes the metric model of the parent of this slice, for a pair that the parent has resolved."""
        if self.model is None:
            claims[self.id, "model"] = self.parameters["model"] = parent.parameters["model"]
            self._build_model(parent.parameters["model"])
        self._claim_parameters(resolved, claims)

    def predicted_class(self, value: RowValue, claims: Claims) -> tuple[str | None, bool]:
        """Returns the class that a prediction would be, if any, and whether it is certain to be a class.

        The class does not depend on earlier rows: only the first pair tells that a number is a class, and the rows
        before that pair belong to the same window.
        """
        if self.is_unusable:
            return None, False
        scoring = self.identity.scoring
        if self.model is None and scoring.storage_uri != "auto":
            self._choose_model(None, None, claims)
        if self.task and not self.has_classes:
            return None, False
        label = task.class_of_output(value, self.task, scoring.threshold, scoring.class_names)
        if label is None or not (self.has_classes or (not self.task and isinstance(value, (str, list)))):
            return label, False
        return label if self.claim_class(label, claims) else OTHER_CLASSES, True

    @property
    def split_at(self) -> int | None:
        """Returns the second since which its sums, and those of what it is compared with, can be told for ever."""
        claimed = self.parameters.get("split_at")
        return None if claimed is None else int(claimed)

    def claim_split(self, second: int, claims: Claims) -> None:
        """Claims a second for the beginning of all comparisons with it."""
        claims[self.id, "split_at"] = self.parameters["split_at"] = str(second)

    @property
    def has_classes(self) -> bool:
        """Tells whether its predictions are certain to be classes."""
        return self.task == "binary" or self.task in task.CLASSIFYING

    def is_wrong(self, y_true: RowValue, y_pred: RowValue) -> bool:
        """Tells whether a pair of its metric model is a wrong decision; False where it decides nothing."""
        scoring = self.identity.scoring
        if self.task == "binary":
            return task.decision_of(y_pred, scoring.threshold) != task.label_of(y_true)
        return self.task in task.CLASSIFYING and task.class_of(y_pred, scoring.class_names) != y_true

    def _choose_model(self, truth: RowValue, prediction: RowValue, claims: Claims) -> bool:
        scoring = self.identity.scoring
        path = scoring.storage_uri
        if path == "auto":
            path = task.infer_model_path(truth, prediction, scoring.max_classes, scoring.class_names) or ""
        if path:
            claims[self.id, "model"] = self.parameters["model"] = path
            self._build_model(path)
        return bool(path)

    def _build_model(self, path: str) -> None:
        scoring = self.identity.scoring
        parameters = {
            "threshold": scoring.threshold,
            "class_names": scoring.class_names,
            "classes": tuple(self.classes),
        }
        if pivot := self.parameters.get("pivot"):
            parameters["pivot"] = float(pivot)
        self.model = self.build(path, parameters)
        self.task = getattr(self.model, "task", "any")
        is_counting = isinstance(self.model, (Counting, AncestorCounting))
        self.counted = getattr(self.model, "counted", ("",)) if is_counting else None

    def _claim_parameters(self, resolved: tuple[RowValue, RowValue], claims: Claims) -> None:
        """Claims a slot for each class of a pair; for a regression the pivot, about which truths are summed."""
        if self.task in task.CLASSIFYING:
            for value in resolved:
                label = task.class_of(value, self.identity.scoring.class_names) if isinstance(value, list) else value
                if label not in self.classes:
                    self.claim_class(str(label), claims)
        elif self.task == "regression" and "pivot" not in self.parameters:
            claims[self.id, "pivot"] = self.parameters["pivot"] = repr(resolved[0])
            self._build_model(self.parameters["model"])

    def claim_class(self, label: str, claims: Claims) -> bool:
        """Claims a slot for a class if one is free; returns whether the class has one."""
        if label in self.classes:
            return True
        slot = len(self.classes)
        is_reserved = label == OTHER_CLASSES
        if is_reserved or slot >= self.identity.scoring.max_classes:
            return False
        self.classes[label] = None
        claims[self.id, f"class/{slot}"] = self.parameters[f"class/{slot}"] = label
        if path := self.parameters.get("model"):
            self._build_model(path)
        return True

    def claim_custom_metric(self, metric: CustomMetric, claims: Claims) -> bool:
        """Claims a slot for a custom metric that has none, if one is free; returns whether it was."""
        slot = len(self.custom_metrics)
        if slot >= MOST_IN_SERIES:
            return False
        self.custom_metrics[metric] = None
        claims[self.id, f"custom/{slot}"] = self.parameters[f"custom/{slot}"] = metric.component
        return True
