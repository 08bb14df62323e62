"""What Argo Rollouts does with an AnalysisTemplate that asks a web page: arguments, measurements, conditions, limits.

As its controller has it in `metricproviders/webmetric`, `utils/evaluate`, `utils/template` and `analysis`, as far as
our template goes. Time passes as fast as measurements are taken.
"""

from __future__ import annotations

import ast
import json
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

Object = dict[str, Any]


class Phase(StrEnum):
    """How a measurement, or the whole run, ended."""

    RUNNING = "Running"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


def resolved(template: Object, given: Mapping[str, str]) -> Object:
    """Returns the metric of a template with the arguments in their places.

    An argument without a value is an error, as in Argo; one of a Secret has to be given.
    """
    known = {argument["name"]: argument["value"] for argument in template["spec"]["args"] if "value" in argument}
    known |= given
    assert known.keys() == {argument["name"] for argument in template["spec"]["args"]}
    (metric,) = template["spec"]["metrics"]
    text = re.sub(r"\{\{\s*args\.([\w-]+)\s*\}\}", lambda found: json.dumps(known[found[1]])[1:-1], json.dumps(metric))
    return dict(json.loads(text))


def found_at(path: str, document: Any) -> Any:
    """Returns what a JSONPath of names and indexes leads to.

    Raises:
        LookupError: there is nothing.
    """
    (inner,) = re.findall(r"^\{\$(.*)\}$", path)
    assert re.fullmatch(r"(\.\w+|\[\d+\])+", inner)
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", inner):
        document = document[name or int(index)]
    return document


def holds(condition: str, result: Any) -> bool:
    """Evaluates a condition in the language expr, of which ours are `result == text` and `result in [texts]`."""
    tree = ast.parse(condition, mode="eval").body
    assert isinstance(tree, ast.Compare)
    assert isinstance(tree.left, ast.Name)
    assert tree.left.id == "result"
    (operator,), (right,) = tree.ops, tree.comparators
    wanted = ast.literal_eval(right)
    assert isinstance(operator, ast.Eq | ast.In)
    return bool(result == wanted if isinstance(operator, ast.Eq) else result in wanted)


def judged(metric: Object, result: Any) -> Phase:
    """With both conditions, a failure comes before a success, and what is neither is inconclusive."""
    if holds(metric["failureCondition"], result):
        return Phase.FAILED
    return Phase.SUCCESSFUL if holds(metric["successCondition"], result) else Phase.INCONCLUSIVE


class AnalysisRun:
    """Measures until limits or the count are reached."""

    def __init__(self, template: Object, arguments: Mapping[str, str]) -> None:
        self.metric = resolved(template, arguments)
        self.phase = Phase.RUNNING
        self.counts: Counter[Phase] = Counter()
        self._errors_in_a_row = 0
        self._successes_in_a_row = 0

    def run(self) -> Phase:
        """Measures to the end."""
        while self.phase is Phase.RUNNING:
            self.measure()
        return self.phase

    def measure(self) -> Phase:
        """Takes one measurement; returns what it was."""
        assert self.phase is Phase.RUNNING
        found = self._measured()
        self.counts[found] += 1
        self._errors_in_a_row = self._errors_in_a_row + 1 if found is Phase.ERROR else 0
        self._successes_in_a_row = self._successes_in_a_row + 1 if found is Phase.SUCCESSFUL else 0
        self.phase = self._assessed()
        return found

    def _measured(self) -> Phase:
        web = self.metric["provider"]["web"]
        headers = {header["key"]: header["value"] for header in web.get("headers", ())}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(web["url"], headers=headers), timeout=web["timeoutSeconds"]
            ) as answer:
                return judged(self.metric, found_at(web["jsonPath"], json.load(answer)))
        except (OSError, LookupError):  # no connection, no 2xx, or nothing at the path
            return Phase.ERROR

    def _assessed(self) -> Phase:
        """`assessMetricStatus`: the limits, and only then the count."""
        metric, counts = self.metric, self.counts
        if self._errors_in_a_row > metric["consecutiveErrorLimit"]:
            return Phase.ERROR
        if counts[Phase.INCONCLUSIVE] > metric["inconclusiveLimit"]:
            return Phase.INCONCLUSIVE
        if counts[Phase.FAILED] > metric["failureLimit"]:
            return Phase.FAILED
        wanted = metric.get("consecutiveSuccessLimit", 0)
        if wanted and self._successes_in_a_row >= wanted:
            return Phase.SUCCESSFUL
        taken = counts.total() - counts[Phase.ERROR]
        return Phase.SUCCESSFUL if taken >= metric["count"] else Phase.RUNNING
