"""Objectives of deployments, which only the configuration file can hold."""

from __future__ import annotations

from typing import Annotated

from metrics_server.series.families import PREFIX
from metrics_server.series.objective import Objective
from metrics_server.settings.field_types import Between, Positive, Text
from metrics_server.settings.selection import Selection


class ObjectiveEntry(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a value of some series should be; a part left out matches any. Only in the configuration file."""

    metric: Text
    level: Between
    false_alarms_a_year: Positive = 0.1

    @property
    def objective(self) -> Objective:
        """The objective without whose it is."""
        metric = PREFIX + self.metric.removeprefix(PREFIX)
        return Objective(metric, self.level, self.false_alarms_a_year)


ObjectiveEntries = Annotated[tuple[ObjectiveEntry, ...], "a list of objectives"]
