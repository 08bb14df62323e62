"""Series: whose numbers they are, and the catalog of those that exist.

A series is the labels of a prediction (namespace, deployment, predictor, model) and the configuration of its metric
model. Whatever else decides what a sum means (the model that `auto` chose, the classes that have a slot) is a
parameter, claimed in the store once and never changed; so equal pairs always give equal increments, and a correction
can take back what it added.
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
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.model import OTHER_CLASSES, AncestorCounting, Counting, MetricModel
from metrics_server.metrics.task import Resolved, RowValue
from metrics_server.store.interface import StoredSeries

logger = logging.getLogger(__name__)

REVISION = 3  # of the sums of a series


class Labels(NamedTuple):
    """Where a prediction came from; an unknown part is ""."""

    namespace: str
    deployment: str
    predictor: str
    model: str


class Scoring(msgspec.Struct, frozen=True, kw_only=True):
    """How the predictions of a series are scored, as configured; part of the series' identity.

    `revision` is that of the sums that are kept. Those of an older one lack what newer values are read from, and what a
    correction would take back; so they are another series.
    """

    storage_uri: str = "auto"
    threshold: float = 0.5
    class_names: tuple[str, ...] = ()
    max_classes: int = 1000
    revision: int = 1


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """The labels and the scoring of a series, and for a slice of one, which; its id is their digest, the same in every
    process.
    """

    labels: Labels
    scoring: Scoring
    slice: str = ""  # such as "tenant=b 7"

    @property
    def encoded(self) -> bytes:
        """As a store keeps it."""
        scoring = msgspec.to_builtins(self.scoring)
        if scoring["revision"] == 1:  # which did not say so
            del scoring["revision"]
        return msgspec.json.encode((self.labels, scoring, *([self.slice] if self.slice else [])))

    @property
    def id(self) -> int:
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
    model: MetricModel | None = None
    task: str = ""  # of its metric model, "" before the first pair
    is_unusable: bool = False
    counted: tuple[str, ...] | None = None  # prefixes of what the ledgers that only grow keep for its model

    def __post_init__(self) -> None:
        self.id = self.identity.id
        self._noted = self.predicted_at, self.labelled_at  # as the store has them
        slots = sorted(int(name.removeprefix("class/")) for name in self.parameters if name.startswith("class/"))
        self.classes = dict.fromkeys(self.parameters[f"class/{slot}"] for slot in slots)
        if path := self.parameters.get("model"):
            try:
                self._build_model(path)
            except (
                BadConfiguration
            ) as error:  # kept as it is: nothing it holds can be read or added to without its model
                logger.warning("The series of %s cannot be scored: %s", "/".join(self.labels), error)
                self.is_unusable = True

    @property
    def labels(self) -> Labels:
        return self.identity.labels

    def needs_persist(self, seconds: float) -> bool:
        """Whether the store knows less of when it was last used, by so many seconds."""
        return self.predicted_at - self._noted[0] >= seconds or self.labelled_at - self._noted[1] >= seconds

    def row(self) -> StoredSeries:
        """The row that a store has to keep, and will."""
        self._noted = self.predicted_at, self.labelled_at
        return StoredSeries(
            self.id, self.identity.encoded, self.created_at, self.seen_at, {}, self.predicted_at, self.labelled_at
        )

    def resolve(self, truth: RowValue, prediction: RowValue, claims: Claims) -> Resolved:
        """The pair as its model takes it, or the status that says why not; settles model and classes on first use."""
        if self.is_unusable or (self.model is None and not self._choose_model(truth, prediction, claims)):
            return LabelStatus.UNSCORABLE
        resolved = task.TASKS[self.task](truth, prediction, self.identity.scoring.class_names)
        if not isinstance(resolved, str):
            self._claim_parameters(resolved, claims)
        return resolved

    def adopt_parent_model(self, parent: Series, resolved: tuple[RowValue, RowValue], claims: Claims) -> None:
        """Takes, as a slice, the model of the whole for a pair that it has resolved."""
        if self.model is None:
            claims[self.id, "model"] = self.parameters["model"] = parent.parameters["model"]
            self._build_model(parent.parameters["model"])
        self._claim_parameters(resolved, claims)

    def predicted_class(self, value: RowValue, claims: Claims) -> tuple[str | None, bool]:
        """The class that a prediction would be, if it is one, and whether it is sure to be one.

        What it would be does not depend on what came before: a number is only known to be a class by the first pair,
        and the rows that came earlier belong to the same window.
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
    def has_classes(self) -> bool:
        """Whether its predictions are known to be classes."""
        return self.task == "binary" or self.task in task.CLASSIFYING

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
        """Claims what the sums of this pair depend on: a slot for each of its classes, or the number about which truths
        are summed.
        """
        if self.task in task.CLASSIFYING:
            for value in resolved:
                label = task.class_of(value, self.identity.scoring.class_names) if isinstance(value, list) else value
                if label not in self.classes:
                    self.claim_class(str(label), claims)
        elif self.task == "regression" and "pivot" not in self.parameters:
            claims[self.id, "pivot"] = self.parameters["pivot"] = repr(resolved[0])
            self._build_model(self.parameters["model"])

    def claim_class(self, label: str, claims: Claims) -> bool:
        """Gives the class a slot if one is free, and says whether it has one."""
        if label in self.classes:
            return True
        if label == OTHER_CLASSES:  # the name is taken
            return False
        if (slot := len(self.classes)) >= self.identity.scoring.max_classes:
            return False
        self.classes[label] = None
        claims[self.id, f"class/{slot}"] = self.parameters[f"class/{slot}"] = label
        if path := self.parameters.get("model"):
            self._build_model(path)
        return True
