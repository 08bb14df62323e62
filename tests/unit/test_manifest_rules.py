"""What the manifests say fits together: names, labels, ports, limits, and what the server needs of them."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_server import __version__
from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import KINDS
from metrics_server.settings import Settings
from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.manifests import (
    DEPLOY,
    KNATIVE,
    SERVER,
    SHARING,
    STARTED,
    every_set,
    object_named,
    objects_of,
    path_id,
    servers_of,
    triggers_of,
)
from tests.support.running import ROOT

PLAIN = DEPLOY / "overlays/plain"
EXAMPLES = sorted((DEPLOY / "examples").rglob("*.yaml"))
DATABASE = "feedback-metrics-postgres-rw"
OPERATOR = "operator.prometheus.io/name"  # on pods that the Prometheus operator makes, of which no template is here
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "part-of")}


def _selected(selector: dict[str, str], objects: list[Object]) -> list[Object]:
    """The workloads whose pods carry these labels."""
    return [
        found
        for found in objects
        for template in kustomize.pods(found)
        if selector.items() <= template["metadata"].get("labels", {}).items()
    ]


def _keys(node: yaml.Node) -> Iterator[list[str]]:
    if isinstance(node, yaml.MappingNode):
        yield [key.value for key, _ in node.value]
        for _, value in node.value:
            yield from _keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _keys(value)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in [*DEPLOY.rglob("*.yaml"), *KNATIVE.rglob("*.yaml")] if path.parent.name != "templates"),
    ids=path_id,
)
def test_no_key_stands_twice(path: Path) -> None:
    """Every file is YAML, and no mapping says a thing twice: the last would win, silently."""
    for node in yaml.compose_all(path.read_text()):
        assert all(len(keys) == len(set(keys)) for keys in _keys(node))


@pytest.mark.parametrize(
    "path", sorted([*DEPLOY.rglob("kustomization.yaml"), *KNATIVE.rglob("kustomization.yaml")]), ids=path_id
)
def test_a_kustomization_names_what_is_there(path: Path) -> None:
    """Each resource exists, and each manifest beside it is used."""
    (plan,) = kustomize.load(path)
    named = {
        *plan.get("resources", []),
        *(name for entry in plan.get("configMapGenerator", []) for name in entry.get("files", [])),
        *plan.get("configurations", []),
    }
    assert all((path.parent / name).exists() for name in {*named, *plan.get("components", [])})
    beside = {found.name for found in path.parent.glob("*.yaml") if "kind.x-k8s.io" not in found.read_text()}
    assert beside - {"kustomization.yaml"} <= named


@every_set
def test_names_labels_and_ports_agree(directory: Path) -> None:
    """Whatever refers to something within a set finds it: selectors, ports, volumes, accounts, subscribers, routes."""
    objects = kustomize.build(directory)
    for service in objects_of(objects, "Service"):
        if OPERATOR in service["spec"].get("selector", {OPERATOR: ""}):  # or a Knative Service, without any
            continue
        (workload,) = _selected(service["spec"]["selector"], objects)
        ports = {
            name
            for container in kustomize.containers(workload)
            for port in container.get("ports", [])
            for name in port.values()
        }
        if directory != PLAIN:
            is_database = service["metadata"]["name"] == DATABASE
            assert [port["name"] for port in service["spec"]["ports"]] == ["postgres" if is_database else "http"]
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for found in objects_of(objects, "PodDisruptionBudget", "NetworkPolicy"):
        selector = (found["spec"].get("selector") or found["spec"]["podSelector"])["matchLabels"]
        assert OPERATOR in selector or _selected(selector, objects), found["metadata"]["name"]
    for found in objects_of(objects, "Deployment"):
        assert _selected(found["spec"]["selector"]["matchLabels"], objects) == [found]
    for found in objects:
        for template in kustomize.pods(found):
            _check_pod(template["spec"], objects)
    if directory != PLAIN:
        assert all(
            found["metadata"].get("labels", {}).keys() >= LABELS for found in objects if found["kind"] != "Namespace"
        )


def _check_pod(spec: Object, objects: list[Object]) -> None:
    if account := spec.get("serviceAccountName"):
        object_named(objects, "ServiceAccount", account)
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            object_named(objects, "ConfigMap", volume["configMap"]["name"])
        if "persistentVolumeClaim" in volume:
            object_named(objects, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    for container in spec["containers"]:
        ports = {port.get("name") for port in container.get("ports", [])}
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= {
            volume["name"] for volume in spec.get("volumes", [])
        }
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if port := container.get(probe, {}).get("httpGet", {}).get("port"):
                assert port in ports


@every_set
def test_what_leads_to_the_server_finds_its_port(directory: Path) -> None:
    """Monitors, routes and mappings name the Service, its port, and paths that it answers."""
    objects = kustomize.build(directory)
    for monitor in objects_of(objects, "ServiceMonitor"):
        service = object_named(objects, "Service", SERVER)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [(end["port"], end["path"]) for end in monitor["spec"]["endpoints"]] == [("http", "/v1/metrics")]
    for monitor in objects_of(objects, "PodMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"] == {"serving.knative.dev/service": SERVER}
        assert [(end["port"], end["path"]) for end in monitor["spec"]["podMetricsEndpoints"]] == [
            ("user-port", "/v1/metrics")
        ]
    for route in objects_of(objects, "Route"):
        if route["metadata"]["name"] != SERVER:  # its own test below
            continue
        assert (route["spec"]["to"]["name"], route["spec"]["port"]["targetPort"], route["spec"]["path"]) == (
            SERVER,
            "http",
            "/v1/feedback",
        )
    for service in objects_of(objects, "VirtualService"):
        object_named(objects, "Gateway", *service["spec"]["gateways"])
        ((match, target),) = [(entry["match"], entry["route"]) for entry in service["spec"]["http"]]
        assert match == [{"uri": {"exact": "/v1/feedback"}, "method": {"exact": "POST"}}]
        assert target == [{"destination": {"host": SERVER, "port": {"number": 80}}}]
    for mapping in objects_of(objects, "Mapping"):
        assert (mapping["spec"]["service"], mapping["spec"]["prefix"], mapping["spec"]["rewrite"]) == (
            f"{SERVER}:80",
            "/v1/feedback",
            "",
        )
        (host,) = objects_of(objects, "Host")
        assert host["spec"]["hostname"] == mapping["spec"]["hostname"]
        assert host["spec"]["mappingSelector"]["matchLabels"].items() <= mapping["metadata"]["labels"].items()
    for dashboard in objects_of(objects, "GrafanaDashboard"):
        reference = dashboard["spec"]["configMapRef"]
        assert reference["key"] in object_named(objects, "ConfigMap", reference["name"])["data"]
    if boards := objects_of(objects, "GrafanaDashboard"):
        assert {board["spec"]["configMapRef"]["key"] for board in boards} == {
            path.name for path in (DEPLOY / "dashboards").glob("*.json")
        }


@every_set
def test_pods_are_hardened(directory: Path) -> None:
    """Pod Security "restricted", a root file system that is read only, resources, probes, the version of this
    package."""
    for found in kustomize.build(directory):
        for template in kustomize.pods(found):
            for container in template["spec"]["containers"]:
                ours = (f"{SERVER}:{__version__}", f"{SERVER}-demo:{__version__}")
                assert container["image"] in ours or found["kind"] == "StatefulSet"
                if directory == PLAIN:
                    continue
                security = {**template["spec"].get("securityContext", {}), **container["securityContext"]}
                assert security["runAsNonRoot"]
                assert security["readOnlyRootFilesystem"]
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}
                assert security["seccompProfile"] == {"type": "RuntimeDefault"}
                assert template["spec"]["automountServiceAccountToken"] is False
                assert {*container["resources"]["requests"]} == {"cpu", "memory"}
                assert {*container["resources"]["limits"]} == {"memory"}
                assert {"livenessProbe", "readinessProbe"} <= container.keys()


@pytest.mark.parametrize("overlay", ["openshift-grafana", "openshift-prometheus"])
def test_what_openshift_asks_for_is_there(overlay: str) -> None:
    """A Grafana that the data source and every dashboard look for; each account that is bound, in the namespace where
    it is; Routes that encrypt, and lead to a Service of the set or of an operator."""
    objects = kustomize.build(DEPLOY / "overlays" / overlay)
    (grafana,) = objects_of(objects, "Grafana")
    for found in objects_of(objects, "GrafanaDatasource", "GrafanaDashboard"):
        assert found["spec"]["instanceSelector"]["matchLabels"].items() <= grafana["metadata"]["labels"].items()
    for binding in objects_of(objects, "RoleBinding", "ClusterRoleBinding"):
        for subject in binding["subjects"]:
            account = object_named(objects, subject["kind"], subject["name"])
            assert account["metadata"]["namespace"] == subject["namespace"]
    routes = [route["spec"] for route in [*objects_of(objects, "Route"), grafana["spec"]["route"]]]
    assert all(route["tls"]["insecureEdgeTerminationPolicy"] == "Redirect" for route in routes)
    services = {found["metadata"]["name"] for found in objects_of(objects, "Service")} | {"grafana-service"}
    assert {route["to"]["name"] for route in routes} <= services


def test_grafana_on_openshift_asks_the_cluster_with_a_token() -> None:
    """The data source has the token and the authority from what OpenShift itself writes, and no check is switched
    off."""
    objects = kustomize.build(DEPLOY / "overlays/openshift-grafana")
    (source,) = objects_of(objects, "GrafanaDatasource")
    assert source["spec"]["datasource"]["url"].startswith("https://thanos-querier.openshift-monitoring.svc")
    assert "tlsSkipVerify" not in source["spec"]["datasource"]["jsonData"]
    values = {value["targetPath"]: value["valueFrom"] for value in source["spec"]["valuesFrom"]}
    for name, text in source["spec"]["datasource"]["secureJsonData"].items():
        (reference,) = values[f"secureJsonData.{name}"].values()
        assert f"${{{reference['key']}}}" in text
    token = object_named(objects, "Secret", values["secureJsonData.httpHeaderValue1"]["secretKeyRef"]["name"])
    assert token["type"] == "kubernetes.io/service-account-token"
    assert not {"data", "stringData"} & token.keys()


def test_prometheus_on_openshift_finds_what_is_ours() -> None:
    """It takes the ServiceMonitor, the rules and the routing of the set, scrapes the server and not itself, and is seen
    from outside through the proxy alone."""
    objects = kustomize.build(DEPLOY / "overlays/openshift-prometheus")
    (prometheus,) = objects_of(objects, "Prometheus")
    (alertmanager,) = objects_of(objects, "Alertmanager")
    (monitor,) = objects_of(objects, "ServiceMonitor")
    for selector, kind in (
        (prometheus["spec"]["serviceMonitorSelector"], "ServiceMonitor"),
        (prometheus["spec"]["ruleSelector"], "PrometheusRule"),
        (alertmanager["spec"]["alertmanagerConfigSelector"], "AlertmanagerConfig"),
    ):
        (found,) = objects_of(objects, kind)
        assert selector["matchLabels"].items() <= found["metadata"]["labels"].items()
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = [found for found in objects_of(objects, "Service") if wanted <= found["metadata"]["labels"].items()]
    assert [found["metadata"]["name"] for found in scraped] == [SERVER]
    (proxy,) = prometheus["spec"]["containers"]
    service = object_named(objects, "Service", f"{SERVER}-prometheus")
    route = object_named(objects, "Route", f"{SERVER}-prometheus")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [port["name"] for port in proxy["ports"]]
    assert route["spec"]["tls"]["termination"] == "reencrypt"
    assert {mount["name"] for mount in proxy["volumeMounts"]} == {
        f"secret-{name}" for name in prometheus["spec"]["secrets"]
    }


def test_each_operator_is_subscribed_to_where_it_can_watch() -> None:
    """A namespace of an operator that watches few namespaces has one OperatorGroup, which watches that of the
    server."""
    objects = kustomize.load(DEPLOY / "openshift/operators.yaml")
    (group,) = objects_of(objects, "OperatorGroup")
    (server,) = objects_of(kustomize.build(DEPLOY / "overlays/openshift-prometheus"), "Deployment")
    assert group["spec"]["targetNamespaces"] == [group["metadata"]["namespace"]] == [server["metadata"]["namespace"]]
    places = {found["spec"]["name"]: found["metadata"]["namespace"] for found in objects_of(objects, "Subscription")}
    assert places == {
        "seldon-operator-certified": "openshift-operators",
        "grafana-operator": "openshift-operators",
        "prometheus": group["metadata"]["namespace"],
    }


def test_openshift_chooses_the_ids() -> None:
    """The overlay leaves no user and no group to the manifest."""
    (server,) = objects_of(kustomize.build(DEPLOY / "overlays/openshift"), "Deployment")
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & server["spec"]["template"]["spec"]["securityContext"].keys()


def test_the_plain_overlay_swaps_the_image_and_nothing_else() -> None:
    """The walkthrough's manifest differs from what is applied in one field."""
    before = kustomize.load(PLAIN / "metrics-server.yaml")
    after = kustomize.build(PLAIN)
    expected = copy.deepcopy(before)
    next(iter(kustomize.containers(expected[0])))["image"] = f"{SERVER}:{__version__}"
    assert after == expected != before


@every_set
def test_every_server_is_one_of_those_that_are_started(directory: Path) -> None:
    """No set has a server whose container is not tried below."""
    tried = [container for name in (*STARTED, *SHARING) for _, container in servers_of(ROOT / name)]
    assert all(container in tried for _, container in servers_of(directory))


def test_the_pod_is_given_the_time_to_stop() -> None:
    """The grace period is longer than what the settings allow the server."""
    objects = kustomize.build(DEPLOY / "base")
    (server,) = objects_of(objects, "Deployment")
    settings = yaml.safe_load(object_named(objects, "ConfigMap", SERVER)["data"]["config.yaml"])
    assert (
        server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        > settings["shutdown_delay"] + settings["drain_seconds"]
    )


def test_one_process_owns_the_state() -> None:
    """No set runs two servers on one state, not for the moment of an update either."""
    (server,) = objects_of(kustomize.build(DEPLOY / "base"), "Deployment")
    assert (server["spec"]["replicas"], server["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert _scales("serving") == ("1", "1")


def _scales(directory: str) -> tuple[str, str]:
    (service,) = [
        found
        for found in kustomize.build(KNATIVE / directory)
        if (found["apiVersion"], found["kind"]) == ("serving.knative.dev/v1", "Service")
    ]
    scales = service["spec"]["template"]["metadata"]["annotations"]
    return scales["autoscaling.knative.dev/min-scale"], scales["autoscaling.knative.dev/max-scale"]


def test_a_knative_service_on_a_database_goes_down_to_zero() -> None:
    """Its state is in no pod, so that there may be none, and several."""
    assert _scales("serving-postgres") == ("0", "9")
    ((service, _),) = servers_of(KNATIVE / "serving-postgres")
    assert [volume["name"] for volume in service["spec"]["template"]["spec"]["volumes"]] == ["tmp"]


def test_triggers_filter_by_types_that_no_reply_may_have() -> None:
    """Each filter asks for a type that is refused as --event_type, so that no setting makes a loop."""
    for trigger in triggers_of(KNATIVE / "deployment"):
        ((said,),) = [entry.values() for entry in trigger["spec"]["filters"]]
        types = [entry["exact"]["type"] for entry in said]
        assert set(types) <= KINDS.keys()
        for kind in types:
            with pytest.raises(BadConfiguration, match="replies would come back as input"):
                Settings(event_type=kind, event_source="x")


def test_kafka_records_come_to_the_server() -> None:
    """The source's sink is the server's Service, in the namespace of the Deployment."""
    (source,) = kustomize.build(KNATIVE / "kafka")
    deployed = kustomize.build(KNATIVE / "deployment")
    assert (
        source["metadata"]["namespace"]
        == object_named(deployed, "Service", source["spec"]["sink"]["ref"]["name"])["metadata"]["namespace"]
    )
    object_named(deployed, "Service", source["spec"]["delivery"]["deadLetterSink"]["ref"]["name"])


def test_the_objects_of_the_operator_are_those_of_the_files() -> None:
    """PrometheusRule and AlertmanagerConfig hold what deploy/rules and deploy/alertmanager say, as their script writes
    it."""
    path = DEPLOY / "components/prometheus_operator.py"
    spec = importlib.util.spec_from_file_location("prometheus_operator", path)
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for written, text in script.manifests().items():
        assert written.read_text() == text, "run `make docs`"
    (rule,) = kustomize.load(DEPLOY / "components/prometheus-operator/prometheus-rule.yaml")
    names = [group["name"] for group in rule["spec"]["groups"]]
    assert len(names) == len(set(names))
    assert names == [
        group["name"]
        for path in sorted((DEPLOY / "rules").glob("*.yaml"))
        if not path.stem.endswith("_test")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]


def _loggers(node: Any) -> Iterator[Object]:
    if isinstance(node, dict):
        if "logger" in node:
            yield node["logger"]
        for value in node.values():
            yield from _loggers(value)
    elif isinstance(node, list):
        for value in node:
            yield from _loggers(value)


@pytest.mark.parametrize("path", EXAMPLES, ids=path_id)
def test_the_examples_log_to_the_service(path: Path) -> None:
    """Each predictor logs all it does to the Service of the overlays, and traffic adds up."""
    service = object_named(kustomize.build(DEPLOY / "overlays/prometheus-operator"), "Service", SERVER)
    url = f"http://{SERVER}.{service['metadata']['namespace']}.svc.cluster.local/"
    for model in objects_of(kustomize.load(path), "SeldonDeployment", "InferenceService"):
        predictors = model["spec"].get("predictors", [model["spec"].get("predictor"), *model["spec"].get("canary", [])])
        loggers = [{name: logger[name] for name in ("mode", "url")} for logger in _loggers(model["spec"])]
        assert loggers == [{"mode": "all", "url": url}] * len(predictors)
        shares = [predictor["traffic"] for predictor in predictors if "traffic" in predictor]
        assert sum(shares) == (100 if shares else 0)


def test_the_model_with_metrics_of_its_own_gives_them() -> None:
    """The class has what Seldon's wrapper asks for, under the name in the manifest."""
    name = kustomize.load(DEPLOY / "examples/seldon/custom-metrics.yaml")[0]["spec"]["predictors"][0]["componentSpecs"][
        0
    ]["spec"]
    module, _, kind = name["containers"][0]["env"][0]["value"].partition(".")
    spec = importlib.util.spec_from_file_location(module, DEPLOY / f"examples/seldon/{module}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    model = getattr(loaded, kind)()
    assert model.predict([[80, 3], [120, 4]], ["area", "rooms"]) == [244_000, 352_000]
    assert {metric["key"]: metric["value"] for metric in model.metrics()} == {
        "house_price_calls": 1,
        "house_price_last_mean": 298_000,
    }


def test_the_ports_of_the_web_lead_to_the_ingress() -> None:
    """What kind maps from 80 and 443 of this machine, on loopback alone, are the node ports that lead to Emissary."""
    folder = DEPLOY / "kind/ambassador"
    (cluster,), (service,) = kustomize.load(folder / "cluster.yaml"), kustomize.load(folder / "service.yaml")
    mapped = cluster["nodes"][0]["extraPortMappings"]
    assert {entry["listenAddress"] for entry in mapped} == {"127.0.0.1"}
    assert service["spec"]["type"] == "NodePort"
    assert (
        {(entry["hostPort"], entry["containerPort"]) for entry in mapped}
        == {(port["port"], port["nodePort"]) for port in service["spec"]["ports"]}
        == {(80, 30080), (443, 30443)}
    )


def test_the_laptops_port_leads_to_the_server() -> None:
    """What kind maps to this machine is the node port of the Service, on loopback alone."""
    (cluster,) = kustomize.load(DEPLOY / "kind/cluster.yaml")
    (mapping,) = cluster["nodes"][0]["extraPortMappings"]
    (port,) = object_named(kustomize.build(DEPLOY / "kind"), "Service", SERVER)["spec"]["ports"]
    assert (mapping["containerPort"], mapping["hostPort"], mapping["listenAddress"]) == (
        port["nodePort"],
        8080,
        "127.0.0.1",
    )


SELDON_MONITORS = DEPLOY / "examples/seldon/service-monitors.yaml"
# Labels of the Services that Seldon's operator makes: of a predictor, of each of its containers, and of its explainer.
MANAGED = {"app.kubernetes.io/managed-by": "seldon-core"}
OF_PREDICTOR = {**MANAGED, "seldon-deployment-id": "iris", "seldon-app": "iris-main"}
OF_CONTAINER = {**OF_PREDICTOR, "seldon-app-svc": "iris-main-classifier", "model": "true"}
OF_EXPLAINER = {**OF_PREDICTOR, "explainer": "true"}


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    met = [(wanted["key"] in labels) is (wanted["operator"] == "Exists") for wanted in expressions]
    return all(met) and selector.get("matchLabels", {}).items() <= labels.items()


def test_every_seldon_example_is_scraped() -> None:
    """Executors once each, at their port `http`, and the custom metrics of all pods on port 6000, both at the path of
    Seldon; all examples live in the namespace of the monitors."""
    objects = kustomize.load(SELDON_MONITORS)
    executors, custom = objects_of(objects, "ServiceMonitor")
    (service,) = objects_of(objects, "Service")
    wanted = {wanted["operator"] for wanted in executors["spec"]["selector"]["matchExpressions"]}
    assert wanted == {"Exists", "DoesNotExist"}
    assert _selects(executors["spec"]["selector"], OF_PREDICTOR)
    assert not _selects(executors["spec"]["selector"], OF_CONTAINER)
    assert not _selects(executors["spec"]["selector"], OF_EXPLAINER)
    assert _selects(custom["spec"]["selector"], service["metadata"]["labels"])
    assert not _selects(executors["spec"]["selector"], service["metadata"]["labels"])
    assert service["spec"]["selector"] == MANAGED
    ends = [end for monitor in (executors, custom) for end in monitor["spec"]["endpoints"]]
    assert [(end["port"], end["path"]) for end in ends] == [("http", "/prometheus"), ("metrics", "/prometheus")]
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("metrics", 6000)]
    examples = [found for path in EXAMPLES if path.parent.name == "seldon" for found in kustomize.load(path)]
    assert {found["metadata"]["namespace"] for found in examples} == {"seldon"}
