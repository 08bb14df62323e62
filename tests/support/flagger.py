"""What Flagger does with a Canary whose traffic goes up in steps: checks of metrics, failed checks, gates.

As its controller has it in `pkg/controller/scheduler.go`, `scheduler_metrics.go` and `scheduler_hooks.go`, as far as
our example goes. Time passes as fast as `advance` is called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

Object = dict[str, Any]


class Phase(StrEnum):
    """How far a release is."""

    PROGRESSING = "Progressing"
    WAITING = "WaitingPromotion"
    PROMOTING = "Promoting"
    FAILED = "Failed"


def rendered(query: str, variables: Mapping[str, str]) -> str:
    """Returns a query with its variables, in one line, as it is sent."""
    text = re.sub(r"\{\{\s*variables\.(\w+)\s*\}\}", lambda found: variables[found[1]], query)
    assert "{{" not in text
    return re.sub(r"\s+", " ", text)


class Release:
    """One release, from its first tick to its promotion or rollback."""

    def __init__(
        self,
        canary: Object,
        template: Object,
        *,
        queried: Callable[[str], float | None],
        runs: Callable[[str], bool],
    ) -> None:
        """`queried` tells the value of a query, if there is one; `runs` whether a command of the load tester does."""
        self._analysis = canary["spec"]["analysis"]
        self._template = template
        self._queried = queried
        self._runs = runs
        self.phase = Phase.PROGRESSING
        self.weight = 0
        self.failed_checks = 0

    def advance(self) -> None:
        """Does what is done at each interval."""
        assert self.phase in (Phase.PROGRESSING, Phase.WAITING)
        if self.failed_checks >= self._analysis["threshold"]:
            self.phase, self.weight = Phase.FAILED, 0
        elif self.weight and not self._is_within_ranges():
            self.failed_checks += 1
        elif self.weight < self._analysis["stepWeights"][-1]:
            self.weight = next(weight for weight in self._analysis["stepWeights"] if weight > self.weight)
        else:
            self.phase = Phase.PROMOTING if self._gate_is_open() else Phase.WAITING

    def _is_within_ranges(self) -> bool:
        """No value and NaN are a failed check, like one out of the range."""
        (metric,) = self._analysis["metrics"]
        assert metric["templateRef"]["name"] == self._template["metadata"]["name"]
        value = self._queried(rendered(self._template["spec"]["query"], metric["templateVariables"]))
        return value is not None and not math.isnan(value) and value <= metric["thresholdRange"]["max"]

    def _gate_is_open(self) -> bool:
        (hook,) = self._analysis["webhooks"]
        assert (hook["type"], hook["metadata"]["type"]) == ("confirm-promotion", "bash")
        return self._runs(hook["metadata"]["cmd"])
