"""Settings that were checked, and what they are for the series of a deployment."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from metrics_server.api.exposure import Exposure
from metrics_server.api.verdict import Decision
from metrics_server.ingest.place import Place, place_of
from metrics_server.ingest.sender_rules import RulesOf, SenderRules, as_sent, row_task_of
from metrics_server.metrics.custom_metric import names_asked_for
from metrics_server.metrics.value import ValueMatrix
from metrics_server.series.objective import Objective
from metrics_server.series.series import REVISION, Build, Labels, Scoring
from metrics_server.settings.checks import check
from metrics_server.settings.deployment import Deployment
from metrics_server.settings.table import Table

ValueMatrices = Callable[[Labels], ValueMatrix | None]


class Settings(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table with its values; those of a deployment win over those for all."""

    def __post_init__(self) -> None:
        """Checks what the types of single fields cannot say; raises BadConfiguration."""
        check(self)

    @property
    def model_paths(self) -> set[str]:
        """The metric models that are named."""
        return {
            path
            for path in (self.storage_uri, *(entry.storage_uri for entry in self.deployments))
            if path and path != "auto"
        }

    def scoring_of(self, labels: Labels) -> Scoring:
        """Tells how predictions with these labels are scored: by the first entry of `deployments` that matches."""
        found = self._entry_of(labels)
        names = self.class_names if found.class_names is None else found.class_names
        return Scoring(
            storage_uri=found.storage_uri or self.storage_uri,
            threshold=self.threshold if found.threshold is None else found.threshold,
            class_names=names,
            max_classes=self.max_classes if found.max_classes is None else found.max_classes,
            revision=REVISION,
        )

    def sender_rules(self, build: Build) -> RulesOf:
        """Makes the rules by which events are read, by their labels; `build` makes metric models."""
        row_tasks = {path: row_task_of(path, build) for path in self.model_paths}
        if not any(row_tasks.values()) and not self._tells_of_senders:
            return as_sent

        @lru_cache(4096)
        def rules_of(labels: Labels) -> SenderRules:
            found, whole = self._entry_of(labels), self._whole_entry_of(labels)
            return SenderRules(
                absent_reward=0.0 if (found.absent_reward or self.absent_reward) == "zero" else None,
                row_task=row_tasks.get(found.storage_uri or self.storage_uri, ""),
                request_id_from=_places(whole.request_id_from, self.request_id_from),
                predictor_from=_places(whole.predictor_from, self.predictor_from),
                custom_metrics=self.custom_metrics_of(labels),
            )

        return rules_of

    def exposure_of(self, labels: Labels) -> Exposure:
        """Tells how much of the series with these labels is exposed."""
        return self._entry_of(labels).expose or self.expose

    def custom_metrics_of(self, labels: Labels) -> frozenset[str]:
        """Tells which custom metrics of the series with these labels are exposed."""
        own = self._entry_of(labels).custom_metrics
        return names_asked_for(self.custom_metrics if own is None else own)

    def group_references_of(self, labels: Labels) -> dict[str, str]:
        """Tells which slices of the series with these labels are groups: by dimension the value of the reference."""
        own = self._entry_of(labels).groups
        references = (reference.partition("=") for reference in (self.groups if own is None else own))
        return {dimension: value for dimension, _, value in references}

    @property
    def _tells_of_senders(self) -> bool:
        """Tells whether anything is set that `sender_rules` has beside the tasks of metric models."""
        parts: tuple[Settings | Deployment, ...] = (self, *self.deployments)
        return any(
            part.absent_reward == "zero" or part.request_id_from or part.predictor_from or part.custom_metrics
            for part in parts
        )

    def declared_baseline(self, labels: Labels) -> str | None:
        """Tells which predictor the others are compared with, by the first entry that matches; None leaves it open."""
        return self._entry_of(labels).baseline

    def decision_of(self, labels: Labels) -> Decision:
        """Tells what is declared of the comparisons of a deployment."""
        entry = self._entry_of(labels)
        return Decision(entry.margin or 0.0, entry.traffic or {})

    def value_matrix_of(self, labels: Labels) -> ValueMatrix | None:
        """Tells what the pairs of the series with these labels are worth; None if that is not declared."""
        declared = self._entry_of(labels).value_matrix
        return None if declared is None else declared.matrix

    def value_matrices(self) -> ValueMatrices:
        """Makes a `value_matrix_of` that remembers: it is asked at every reading of a window."""
        return lru_cache(4096)(self.value_matrix_of)

    def objectives_of(self, labels: Labels) -> list[Objective]:
        """Tells what values of the series with these labels should be, by all entries that match."""
        return [entry.objective for entry in self.objectives if entry.matches(labels)]

    def _entry_of(self, labels: Labels) -> Deployment:
        return next((entry for entry in self.deployments if entry.matches(labels)), Deployment())

    def _whole_entry_of(self, labels: Labels) -> Deployment:
        """Finds the first entry that holds for all of a deployment: a truth seldom names a predictor and a model."""
        entries = (entry for entry in self.deployments if entry.is_of_whole_deployments)
        return next((entry for entry in entries if entry.matches(labels)), Deployment())


def _places(of_deployment: tuple[str, ...] | None, otherwise: tuple[str, ...]) -> tuple[Place, ...]:
    return tuple(map(place_of, otherwise if of_deployment is None else of_deployment))
