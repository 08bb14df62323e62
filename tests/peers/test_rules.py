"""The recording rules and alerts that we ship: sound, tested, explained, and of series that exist."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from tests.support.monitoring import RULES, Prometheus
from tests.support.running import RESPONSE, ROOT, RunningServer, ce, peer
from tests.support.waiting import until

Values: TypeAlias = dict[frozenset[tuple[str, str]], float]  # by labels, without names

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


# Of whose kind others are there, over shorter times; they are tried in make long.
SLOW = ("accuracy below its objective", "accuracy and error against", "days")


def _cases() -> Iterator[Any]:
    """Each test of the files, as a file of its own."""
    for path in TESTS:
        document = yaml.safe_load(path.read_text())
        document["rule_files"] = [str(RULES / name) for name in document["rule_files"]]
        for number, test in enumerate(document["tests"]):
            name = f"{path.stem}: {test.get('name', number)}"
            marks = [pytest.mark.long] if any(word in name for word in SLOW) else []
            yield pytest.param(document | {"tests": [test]}, id=name, marks=marks)


@pytest.mark.parametrize("document", [*_cases()])
def test_alerts_fire_and_stay_silent(document: dict[str, Any], tmp_path: Path) -> None:
    """Series in, alerts out: word by word what the test file says."""
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    _promtool("test", "rules", str(tmp_path / "test.yaml"))


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


class Watched(NamedTuple):
    """A server that scores classes, and a Prometheus with our rules that scrapes it."""

    server: RunningServer
    prometheus: Prometheus

    def feed(self, deployment: str, statements: Iterable[dict[str, Any]]) -> None:
        named = {"namespace": "shop", "deployment": deployment, "predictor": "main", "model": "m"}
        body = [named | statement for statement in statements]
        assert self.server.post(body, {"Content-Type": "application/json"}, "/v1/feedback").status == 200

    def feed_cells(self, deployment: str, cells: Iterable[tuple[int, int]]) -> None:
        self.feed(deployment, ({"truth": truth, "prediction": said} for truth, said in cells))

    def log(self, deployment: str, request_id: str, said: int) -> None:
        headers = ce(RESPONSE, f"event-{request_id}", request_id, inferenceservicename=deployment, modelid="m")
        assert self.server.post({"data": {"ndarray": [said]}}, headers).status == 200

    def recorded(self, name: str, deployment: str) -> Values:
        return until(lambda: _of(self.prometheus.values(name), deployment), 40, f"no {name} is recorded")

    def recorded_as(self, name: str, deployment: str, expected: Any) -> Values:
        """The recorded values once they are the expected ones. increase() adds half a scrape's time at each end of what
        it saw, in each series by itself, which is the less of the whole the more scrapes there were."""

        def agreed() -> Values | None:
            values = self.recorded(name, deployment)
            return values if values == expected else None

        return until(agreed, 60, f"{name} of {deployment} does not come to {expected}")

    def gauge(self, name: str) -> Values:
        labels = "deployment_namespace, deployment_name, predictor_name, model_name, class"
        return self.prometheus.values(f'max by ({labels}) ({name}{{window="1h",slice=""}})')

    def net(self, name: str) -> Values:
        """What was applied since the series began, less what was taken back."""
        return self.prometheus.values(
            f'sum without (change) ({name}{{change="applied"}} or -{name}{{change="retracted"}})'
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    model = "cm_models.multiclass_numeric.MultiClassNumeric"
    server = RunningServer(folder, "--store", "memory://", "--storage_uri", model, "--max_classes", "35")
    try:
        prometheus = Prometheus(folder, server.port)
        try:
            yield Watched(server, prometheus)
        finally:
            prometheus.stop()
    finally:
        server.stop()


def _of(values: Values, deployment: str) -> Values:
    return {labels: value for labels, value in values.items() if ("deployment_name", deployment) in labels}


def test_quality_by_label_time_agrees_with_the_gauges(watched: Watched) -> None:
    """With labels at once and no corrections both clocks say the same within 2 %: accuracy, and precision and recall of
    each class; accuracy too of more classes than the matrix has cells for, and than the series tells apart."""
    cells = [(truth, said) for truth in range(3) for said in range(3)]
    letters = [(truth, truth if truth % 4 else truth + 1) for truth in range(40)]
    watched.feed_cells("wine", cells)
    watched.feed_cells("letters", letters)
    until(lambda: len(_of(watched.net("model_class:pairs:total"), "wine")) == 9, 40, "not all classes are recorded")
    dice = random.Random(7)
    for _ in range(30):
        watched.feed_cells("wine", dice.choices(cells, [30, 5, 2, 3, 20, 4, 1, 2, 10], k=100))
        watched.feed_cells("letters", dice.sample(letters, 30))
        time.sleep(0.1)  # so that they come in the course of several scrapes
    fed = {"wine": 3009, "letters": 940}
    until(
        lambda: all([*_of(watched.net("model:pairs:total"), name).values()] == [count] for name, count in fed.items()),
        40,
        "not all pairs are recorded",
    )
    for recorded, gauge, deployments in (
        ("model:accuracy:ratio1h", "model_accuracy_ratio", fed),
        ("model_class:precision:ratio1h", "model_precision_ratio", ["wine"]),
        ("model_class:recall:ratio1h", "model_recall_ratio", ["wine"]),
    ):
        for deployment in deployments:
            by_prediction = _of(watched.gauge(gauge), deployment)
            by_arrival = watched.recorded_as(recorded, deployment, pytest.approx(by_prediction, rel=0.02))
            assert all(0.4 < value < 0.99 for value in by_arrival.values())


def test_net_counts_of_pairs_are_those_of_the_gauges(watched: Watched) -> None:
    """Feedback that overtakes the response that it carries, corrections and truths that are taken back leave as many
    pairs and errors, by what was applied less what was retracted, as the gauges rest on."""
    truths = {f"r{n}": n % 3 for n in range(30)}
    watched.feed("pets", ({"request_id": key, "prediction": 0, "truth": truth} for key, truth in truths.items()))
    for key in list(truths)[:15]:
        watched.log("pets", key, 0)
    watched.feed("pets", ({"request_id": f"r{n}", "truth": 0} for n in range(4, 8)))
    watched.feed("pets", ({"request_id": f"r{n}", "truth": None} for n in range(9, 13)))
    until(lambda: [*_of(watched.gauge("model_support"), "pets").values()] == [26], 40, "the gauge is not scraped")
    pairs, accuracy = (_of(watched.gauge(name), "pets") for name in ("model_support", "model_accuracy_ratio"))
    until(lambda: _of(watched.net("model:pairs:total"), "pets") == pairs, 40, "not all pairs are recorded")
    errors = {labels: count * (1 - accuracy[labels]) for labels, count in pairs.items()}
    assert _of(watched.net("model:errors:total"), "pets") == pytest.approx(errors)
    retracted = watched.prometheus.values('model:pairs:total{change="retracted",deployment_name="pets"}')
    assert [*retracted.values()] == [15 + 3 + 4]
