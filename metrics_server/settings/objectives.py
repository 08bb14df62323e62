"""Objectives of deployments, which only the configuration file can hold."""

from __future__ import annotations

from typing import Annotated

import msgspec

from metrics_server.series.objective import Objective
from metrics_server.series.series import Labels
from metrics_server.settings.field_types import Between, Positive, Text


class ObjectiveEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a value of some series should be; a part left out matches any. Only in the configuration file."""

    namespace: Text = ""
    deployment: Text = ""
    predictor: Text = ""
    model: Text = ""
    metric: Text
    level: Between
    false_alarms_a_year: Positive = 0.1

    def matches(self, labels: Labels) -> bool:
        """Tells whether it is for series with these labels: each part of it is left out or the same."""
        wanted = (self.namespace, self.deployment, self.predictor, self.model)
        return all(want in ("", got) for want, got in zip(wanted, labels, strict=True))

    @property
    def objective(self) -> Objective:
        """The objective without whose it is."""
        metric = self.metric if self.metric.startswith("model_") else f"model_{self.metric}"
        return Objective(metric, self.level, self.false_alarms_a_year)


ObjectiveEntries = Annotated[tuple[ObjectiveEntry, ...], "a list of objectives"]
