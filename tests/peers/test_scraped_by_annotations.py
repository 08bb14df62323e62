"""A Prometheus that finds its targets by annotations of pods, as those of our users do, finds the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.manifests import KNATIVE, servers_of
from tests.support.monitoring import Program, fetched
from tests.support.running import ROOT, RunningServer, free_port, peer
from tests.support.waiting import until

META = "__meta_kubernetes_pod_"
SCRAPE, PATH, PORT = (f"{META}annotation_prometheus_io_{name}" for name in ("scrape", "path", "port"))
DECLARED = "8080"  # in the manifests; here a free port stands for it


def _keep(label: str, regex: str) -> Object:
    return {"source_labels": [label], "action": "keep", "regex": regex}


def _replace(labels: list[str], regex: str, target: str, replacement: str = "$1") -> Object:
    return {"source_labels": labels, "regex": regex, "target_label": target, "replacement": replacement}


ANNOTATED, AT_PATH = _keep(SCRAPE, "true"), _replace([PATH], "(.+)", "__metrics_path__")
RULES = {
    # SeldonIO/seldon-core helm-charts/seldon-core-analytics, prometheus-config.yaml, job kubernetes-pods
    "seldon-core-analytics": [
        ANNOTATED,
        _keep(f"{META}container_port_name", "metrics(-.*)?"),
        AT_PATH,
        _replace(["__address__", PORT], r"(.+):(?:\d+);(\d+)", "__address__", "${1}:${2}"),
    ],
    # prometheus-community/helm-charts charts/prometheus, values.yaml, job kubernetes-pods, for addresses of IPv4
    "prometheus-community": [
        ANNOTATED,
        AT_PATH,
        _replace([PORT, f"{META}ip"], r"(\d+);((([0-9]+?)(\.|$)){4})", "__address__", "$2:$1"),
    ],
}


def _notebooks_server() -> Object:
    """The Deployment that the walkthrough applies."""
    notebook = json.loads((ROOT / "notebooks/walkthrough.ipynb").read_text())
    (cell,) = [cell for cell in notebook["cells"] if "kind: Deployment\n" in cell["source"]]
    manifest = "".join(cell["source"]).split('"""')[1].replace("{IMAGE}", "image")
    return next(found for found in yaml.safe_load_all(manifest) if found["kind"] == "Deployment")


def _deployments() -> dict[str, Object]:
    sets = [ROOT / "deploy/base", ROOT / "deploy/overlays/plain", ROOT / "deploy/kind", KNATIVE / "deployment"]
    found = {str(path.relative_to(ROOT)): servers_of(path)[0][0] for path in sets}
    return {**found, "notebooks/walkthrough.ipynb": _notebooks_server()}


DEPLOYMENTS = _deployments()


def _discovered(deployment: Object, port: int) -> list[Object]:
    """The targets that the discovery of pods makes of a Deployment: one for each port of a container."""
    (template,) = kustomize.pods(deployment)
    annotations = template["metadata"].get("annotations", {})
    labels = {f"{META}ip": "127.0.0.1"}
    for name, value in annotations.items():
        sanitized = name.replace(".", "_").replace("/", "_")
        labels[f"{META}annotation_{sanitized}"] = value.replace(DECLARED, str(port))
    return [
        {
            "targets": [f"127.0.0.1:{str(declared['containerPort']).replace(DECLARED, str(port))}"],
            "labels": {**labels, f"{META}container_port_name": declared["name"]},
        }
        for container in template["spec"]["containers"]
        for declared in container["ports"]
    ]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    """What a real Prometheus with each of the rules scrapes of each Deployment, by job; one server stands for all."""
    folder = tmp_path_factory.mktemp("annotated")
    with ExitStack() as opened:
        server, port = RunningServer(folder, "--store", "memory://"), free_port()
        opened.callback(server.stop)
        jobs = [
            {
                "job_name": f"{rules} {name}",
                "static_configs": _discovered(deployment, server.port),
                "relabel_configs": RULES[rules],
            }
            for rules in RULES
            for name, deployment in DEPLOYMENTS.items()
        ]
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs})
        )
        words = [
            peer("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        prometheus = Program(folder, words, port, "/-/ready")
        opened.callback(prometheus.stop)

        def scraped() -> list[Any]:
            active: list[Any] = fetched(f"{prometheus.url}/api/v1/targets?state=active")["data"]["activeTargets"]
            return [] if any(target["health"] == "unknown" for target in active) else active

        by_job: dict[str, list[Any]] = {}
        for target in until(scraped, 40, "not all targets were scraped"):
            by_job.setdefault(target["scrapePool"], []).append(target)
        yield by_job


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_server_is_scraped_once(targets: dict[str, list[Any]], rules: str, name: str) -> None:
    """By the rules of both charts, at the path of the metrics, with success."""
    (target,) = targets[f"{rules} {name}"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["scrapeUrl"].endswith("/v1/metrics")


@pytest.mark.parametrize("name", [name for name in DEPLOYMENTS if name != "deploy/overlays/plain"])
def test_annotations_name_the_port(name: str) -> None:
    """Every Deployment of ours says where; the older manifest leaves it to the port of the container."""
    (template,) = kustomize.pods(DEPLOYMENTS[name])
    assert template["metadata"]["annotations"]["prometheus.io/port"] == DECLARED


def _admits(source: Object, namespace: dict[str, str]) -> bool:
    """Whether a peer of a policy is all pods of a namespace with these labels, and of other namespaces than its own."""
    selector = source.get("namespaceSelector")
    if selector is None or "podSelector" in source:
        return False
    labels_match = selector.get("matchLabels", {}).items() <= namespace.items()
    return labels_match and all(
        namespace.get(wanted["key"]) in wanted["values"] for wanted in selector.get("matchExpressions", [])
    )


@pytest.mark.parametrize(
    ("namespace", "is_let_in"),
    [
        ({"kubernetes.io/metadata.name": "monitoring"}, True),
        ({"kubernetes.io/metadata.name": "seldon-system"}, True),
        ({"kubernetes.io/metadata.name": "mine", "feedback-metrics-server/scraper": "true"}, True),
        ({"kubernetes.io/metadata.name": "mine"}, False),
    ],
    ids=lambda value: str(value["kubernetes.io/metadata.name"]) if isinstance(value, dict) else None,
)
def test_the_policy_lets_prometheus_in(namespace: dict[str, str], is_let_in: bool) -> None:
    """From where the docs say that one scrapes, to the port of the container, and from nowhere else."""
    objects = kustomize.build(ROOT / "deploy/base")
    (policy,) = [found for found in objects if found["kind"] == "NetworkPolicy"]
    (rule,) = policy["spec"]["ingress"]
    (container,) = kustomize.containers(DEPLOYMENTS["deploy/base"])
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container["ports"]]
    assert any(_admits(source, namespace) for source in rule["from"]) is is_let_in
