"""Alerts in a cluster: one value sets a threshold, the message has a link that opens, and the operator's routing tells
Slack.

The operator itself does not run here: tests/support/alertmanager_config.py does its part.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.support import kustomize
from tests.support.alertmanager_config import configuration
from tests.support.kustomize import Object
from tests.support.manifests import DEPLOY, SERVER, object_named, objects_of
from tests.support.monitoring import Alertmanager, Receiver, fetched
from tests.support.running import peer
from tests.support.waiting import until

RUNBOOKS = "https://handbook.example.org/models/runbooks"
HOUSES = '{deployment_namespace="seldon",deployment_name="house-price",predictor_name="default"'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """A kustomization of one's own beside the repository, in another namespace, with values and no file edited."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    shutil.copytree(DEPLOY, folder / "deploy")
    values = [f"runbooks={RUNBOOKS}", "output_mean_minimum=100000"]
    plan = {
        "namespace": "quality",
        "resources": ["../deploy/base"],
        "components": ["../deploy/components/prometheus-operator", "../deploy/components/alertmanager"],
        "configMapGenerator": [{"name": f"{SERVER}-values", "behavior": "merge", "literals": values}],
    }
    (folder / "mine").mkdir()
    (folder / "mine/kustomization.yaml").write_text(yaml.safe_dump(plan))
    done = subprocess.run(
        [kubectl, "kustomize", folder / "mine"], capture_output=True, text=True, timeout=60, check=True
    )
    return list(yaml.safe_load_all(done.stdout))


def test_every_alert_of_the_object_has_a_link_and_the_namespace(built: list[Object]) -> None:
    """Each alert carries an address on the page of runbooks that was named, and the namespace that an
    AlertmanagerConfig asks for; recording rules are as they were."""
    (rule,) = objects_of(built, "PrometheusRule")
    rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"]]
    for alert in (rule for rule in rules if "alert" in rule):
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}#{alert['alert'].lower()}"
        assert alert["labels"]["namespace"] == "quality"
    assert not any("namespace" in rule.get("labels", {}) for rule in rules if "record" in rule)


def test_what_components_are_made_with_stays_out_of_the_cluster(built: list[Object]) -> None:
    """The values are in the objects, and are no object."""
    (config,) = objects_of(built, "ConfigMap")
    assert [*config["data"]] == ["config.yaml"]


def test_one_value_sets_the_lowest_average_prediction(built: list[Object], tmp_path: Path) -> None:
    """With 100,000 said once, a model of house prices that predicts 90,000 on average is told, with the link; one that
    predicts 110,000 is not, nor is one whose deployment has an objective of its own."""
    (rule,) = objects_of(built, "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    diabetes = HOUSES.replace("house-price", "diabetes")
    models = {HOUSES: 90_000, HOUSES.replace("default", "good"): 110_000, diabetes: 150}
    series = [
        {"series": f"{name}{model}{window}}}", "values": f"{value}x30"}
        for model, mean in models.items()
        for name, window, value in (
            ("model_labels_total", ',status="matched"', 0),
            ("model_output_mean", ',window="1d"', mean),
            ("model_output_mean_lower", ',window="1d"', mean * 0.99),
            ("model_output_mean_upper", ',window="1d"', mean * 1.01),
        )
    ]
    alert = {
        "exp_labels": {
            "severity": "warning",
            "side": "low",
            "namespace": "quality",
            "deployment_namespace": "seldon",
            "deployment_name": "house-price",
            "predictor_name": "default",
            "window": "1d",
        },
        "exp_annotations": {
            "summary": "house-price default: predictions are too low on average",
            "description": "Its mean prediction in 1d is 90k, and should be at least 100k.",
            "runbook_url": f"{RUNBOOKS}#modeloutputmeanoutofrange",
        },
    }
    look = {"alertname": "ModelOutputMeanOutOfRange", "eval_time": "20m", "exp_alerts": [alert]}
    test = {"interval": "1m", "input_series": series, "alert_rule_test": [look]}
    groups = [group["name"] for group in rule["spec"]["groups"]]
    names = ["model objectives", *sorted(set(groups) - {"model objectives"}, key=groups.index)]
    plan = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "group_eval_order": names, "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(plan))
    ran = subprocess.run(
        [peer("promtool"), "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    running = Receiver(tmp_path)
    yield running
    running.stop()


def test_slack_is_told_by_the_operators_routing(receiver: Receiver, tmp_path: Path) -> None:
    """An Alertmanager with our AlertmanagerConfig sends a message that ends in a link; an alert of another namespace
    stays unsaid."""
    (found,) = objects_of(kustomize.build(DEPLOY / "overlays/prometheus-operator"), "AlertmanagerConfig")
    labels = {
        "alertname": "ModelOutputMeanOutOfRange",
        "namespace": "metrics",
        "severity": "warning",
        "deployment_name": "house-price",
    }
    annotations = {"summary": "too low", "description": "It is 90k.", "runbook_url": f"{RUNBOOKS}#a"}
    later = {"severity": "info", "alertname": "Information"}
    with ExitStack() as stack:
        alertmanager = Alertmanager(tmp_path, receiver, configuration(found, "/run/secrets/slack_url"))
        stack.callback(alertmanager.stop)
        body = [{"labels": labels | other, "annotations": annotations} for other in ({"namespace": "elsewhere"}, {})]
        fetched(f"{alertmanager.url}/api/v2/alerts", body)
        message = until(lambda: receiver.titled("Warning: ModelOutputMeanOutOfRange of house-price"), 40, "no message")
        fetched(f"{alertmanager.url}/api/v2/alerts", [{"labels": labels | later, "annotations": annotations}])
        until(lambda: receiver.titled("Info: Information of house-price"), 40, "no later message")
        assert len(receiver.attachments()) == 2
    assert message["text"].splitlines() == ["*too low*", "It is 90k.", f"What to do: {RUNBOOKS}#a"]
    assert message["color"] == "warning"


def test_the_secret_of_the_example_is_the_one_that_is_asked_for() -> None:
    """The Slack receiver finds its webhook under the name and key of the example, whose address leads nowhere."""
    (found,) = objects_of(kustomize.build(DEPLOY / "overlays/prometheus-operator"), "AlertmanagerConfig")
    (secret,) = kustomize.load(DEPLOY / "examples/slack/secret.yaml")
    asked = {
        (one["apiURL"]["name"], one["apiURL"]["key"])
        for receiver in found["spec"]["receivers"]
        for one in receiver["slackConfigs"]
    }
    assert asked == {(secret["metadata"]["name"], key) for key in secret["stringData"]}
    assert secret["stringData"]["url"].startswith("https://hooks.slack.com/services/T00000000/")
    assert object_named([secret], "Secret", f"{SERVER}-slack")
