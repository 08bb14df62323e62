"""The overlays with several servers on one PostgreSQL: servers that really start as their pods do, and are equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.manifests import DEPLOY, REPLICATED, SERVER, SHARING, object_named, objects_of, servers_of
from tests.support.postgres import Postgres
from tests.support.running import ROOT, RunningServer
from tests.support.waiting import until

FEEDBACK = {"deployment": "wine", "prediction": 0, "truth": 1}
SECRET = "feedback-metrics-postgres-app"

each_overlay = pytest.mark.parametrize("name", REPLICATED)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    server = Postgres().create()
    yield server
    server.stop()


@pytest.mark.parametrize("name", SHARING)
def test_pods_are_equal(name: str, postgres: Postgres, tmp_path: Path) -> None:
    """With the container's arguments, and the keys of the Secret as its environment, there are servers of which each
    shows what another was sent."""
    ((_, container),) = servers_of(ROOT / name)
    keys = {"host": "127.0.0.1", "port": str(postgres.port), "dbname": "postgres", "username": "test", "password": "p"}
    references = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container["env"]}
    assert {reference["name"] for reference in references.values()} == {SECRET}
    environment = {variable: keys[reference["key"]] for variable, reference in references.items()}
    options = [word for word in container["args"] if not word.startswith(("--config", "--host", "--http_port"))]
    assert "--store=postgresql://" in options
    servers = []
    try:
        for _ in range(2):
            servers.append(RunningServer(tmp_path, *options, "--shutdown_delay", "0", environment=environment))
        one, other = servers
        assert one.post(FEEDBACK, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
        until(lambda: other.value("model_decisions_total", deployment_name="wine"), 10, "the other does not show it")
    finally:
        for server in servers:
            server.stop()


@each_overlay
def test_no_update_and_no_drain_is_a_gap(name: str) -> None:
    """Three servers at least, spread, replaced one by one after the new one is ready; none has a volume of its own."""
    objects = kustomize.build(ROOT / name)
    server = object_named(objects, "Deployment", SERVER)["spec"]
    (scaler,) = (found["spec"] for found in objects_of(objects, "HorizontalPodAutoscaler"))
    assert "replicas" not in server
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"]) == (SERVER, 3)
    assert server["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert object_named(objects, "PodDisruptionBudget", SERVER)["spec"]["maxUnavailable"] == 1
    pod = server["template"]["spec"]
    labels = server["template"]["metadata"]["labels"].items()
    spread = pod["topologySpreadConstraints"]
    assert all(rule["labelSelector"]["matchLabels"].items() <= labels for rule in spread)
    assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    assert SERVER not in {claim["metadata"]["name"] for claim in objects_of(objects, "PersistentVolumeClaim")}


def test_a_commit_waits_for_another_instance() -> None:
    """The operator's PostgreSQL has three instances, and one of two standbys has each commit before it is answered."""
    (cluster,) = objects_of(kustomize.build(DEPLOY / "overlays/replicated"), "Cluster")
    assert cluster["spec"]["instances"] == 3
    assert cluster["spec"]["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert f"{cluster['metadata']['name']}-app" == SECRET  # as the operator calls it


@each_overlay
def test_servers_may_reach_the_database(name: str) -> None:
    """The policy of the servers lets them out to the pods of the database: by the label that its operator gives, and
    that ours has."""
    objects = kustomize.build(ROOT / name)
    policy = object_named(objects, "NetworkPolicy", f"{SERVER}-postgres")
    ((rule,),) = [policy["spec"]["egress"]]
    ((target,),) = [rule["to"]]
    wanted = target["podSelector"]["matchLabels"]
    found = [_pod_labels(one) for one in objects_of(objects, "Cluster", "StatefulSet")]
    assert any(wanted.items() <= labels.items() for labels in found)


def _pod_labels(found: Object) -> dict[str, str]:
    if found["kind"] == "Cluster":
        return {"cnpg.io/cluster": found["metadata"]["name"]}
    return dict(found["spec"]["template"]["metadata"]["labels"])


def test_the_metric_of_the_autoscaler_is_the_adapters() -> None:
    """What the autoscaler asks for is what the page's rule of prometheus-adapter makes, of a counter that the server
    has."""
    page = (ROOT / "docs/how-to/one-machine-or-many.md").read_text()
    (text,) = [block.partition("```")[0] for block in page.split("```yaml\n") if block.startswith("rules:")]
    (rule,) = yaml.safe_load(text)["rules"]["custom"]
    (scaler,) = objects_of(kustomize.build(DEPLOY / "overlays/replicated"), "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    name = rule["seriesQuery"].partition("{")[0]
    assert f"| `{name}` | counter |" in (ROOT / "docs/reference/metrics.md").read_text()
