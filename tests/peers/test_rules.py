"""The recording rules and alerts that we ship: sound, tested, explained, and of series that exist."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Serve
from tests.support.monitoring import RULES, Prometheus
from tests.support.running import ROOT, RunningServer, peer
from tests.support.waiting import until

TESTS = sorted(RULES.glob("*_test.yaml"))
FILES = sorted(set(RULES.glob("*.yaml")) - set(TESTS))
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text()
RUNBOOKS = (ROOT / "docs/how-to/runbooks.md").read_text()


def _rules() -> Iterator[dict[str, Any]]:
    for path in FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in _rules() if "alert" in rule]
RECORDED = {rule["record"] for rule in _rules() if "record" in rule}


def _promtool(*words: str) -> None:
    ran = subprocess.run(
        [peer("promtool"), *words], cwd=RULES, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_accepts_the_rules() -> None:
    """Prometheus can load every file, and finds no rule twice."""
    _promtool("check", "rules", "--lint-fatal", *(path.name for path in FILES))


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.long] if "days" in path.stem else []) for path in TESTS],
)
def test_alerts_fire_and_stay_silent(path: Path) -> None:
    """Series in, alerts out: word by word what the test file says."""
    _promtool("test", "rules", path.name)


def test_every_alert_is_tested_both_ways() -> None:
    """For each alert, of each severity and other fixed label, there is a time when it fires, and one when nothing of
    its name does."""
    fired, silent = set(), set()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for look in test.get("alert_rule_test", []):
                expected = look.get("exp_alerts") or []
                fired |= {(look["alertname"], label) for one in expected for label in one["exp_labels"].items()}
                if not expected:
                    silent.add(look["alertname"])
    assert {(rule["alert"], label) for rule in ALERTS for label in rule["labels"].items()} <= fired
    assert {rule["alert"] for rule in ALERTS} == silent


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_its_runbook(rule: dict[str, Any]) -> None:
    """It says how bad it is, what happened, and where to read on."""
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/how-to/runbooks.md#{rule['alert'].lower()}"


def test_the_runbooks_are_of_the_alerts() -> None:
    """One heading for each alert, and no other."""
    assert sorted(re.findall(r"^### (.*)$", RUNBOOKS, re.MULTILINE)) == sorted({rule["alert"] for rule in ALERTS})


def test_every_series_of_the_rules_exists() -> None:
    """A name in an expression or an annotation is recorded by a rule, or in the reference of metrics."""
    read = " ".join(" ".join([rule["expr"], *rule.get("annotations", {}).values()]) for rule in _rules())
    recorded = set(re.findall(r"\b(?:model|deployment)[a-z_]*(?::[a-z_0-9]+)+", read))
    assert recorded <= RECORDED, recorded - RECORDED
    for name in set(re.findall(r"(?<![\w:])(?:model|metrics_server)_\w+(?![\w:])", read)) - {"model_name"}:
        assert f"| `{name.removesuffix('_bucket')}` |" in REFERENCE, name


def test_every_constant_is_used() -> None:
    """What objectives.yaml sets, some rule reads."""
    read = " ".join(rule["expr"] for rule in _rules())
    for group in yaml.safe_load((RULES / "objectives.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert re.search(rf"{rule['record']}\b", read), rule["record"]


def _feed(server: RunningServer, cells: list[tuple[int, int]]) -> None:
    statements = [
        {"truth": truth, "prediction": said, "deployment": "wine", "predictor": "main", "model": "m"}
        for truth, said in cells
    ]
    assert server.post(statements, {"Content-Type": "application/json"}, "/v1/feedback").status == 200


def test_quality_by_label_time_agrees_with_the_gauges(serve: Serve, tmp_path: Path) -> None:
    """With labels at once and no corrections both clocks say the same within 2 %: accuracy, and precision and recall of
    each class."""
    server = serve("--store", "memory://", "--storage_uri", "cm_models.multiclass_numeric.MultiClassNumeric")
    cells = [(truth, said) for truth in range(3) for said in range(3)]
    _feed(server, cells)
    prometheus = Prometheus(tmp_path, server.port)
    try:
        until(
            lambda: len(prometheus.values('model_class:pairs:total{change="applied"}')) == 9,
            40,
            "not all classes are recorded",
        )
        dice = random.Random(7)
        for _ in range(30):
            _feed(server, dice.choices(cells, [30, 5, 2, 3, 20, 4, 1, 2, 10], k=100))
            time.sleep(0.1)  # so that they come in the course of several scrapes
        until(
            lambda: prometheus.values('sum(model:pairs:total{change="applied"})') == {frozenset(): 3009.0},
            40,
            "not all pairs are recorded",
        )
        for recorded, gauge in (
            ("model:accuracy:ratio1h", "model_accuracy_ratio"),
            ("model_class:precision:ratio1h", "model_precision_ratio"),
            ("model_class:recall:ratio1h", "model_recall_ratio"),
        ):
            by_arrival = until(lambda recorded=recorded: prometheus.values(recorded), 40, "nothing is recorded")
            labels = "deployment_name, predictor_name, model_name, class"
            by_prediction = prometheus.values(f'max by ({labels}) ({gauge}{{window="1h",slice=""}})')
            assert by_arrival.keys() == by_prediction.keys()
            assert by_arrival == pytest.approx(by_prediction, rel=0.02), recorded
            assert all(0.4 < value < 0.99 for value in by_arrival.values())
    finally:
        prometheus.stop()
