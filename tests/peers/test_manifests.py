"""The manifests say what the server does: names that agree, probes that answer, arguments that start it, filters that
cannot loop.

What a cluster makes of them (pulled images, the operators' own code, the data path of an ingress) is not seen here.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event

from metrics_server import __version__
from metrics_server.__main__ import on_volume
from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import KINDS
from metrics_server.settings import Settings
from tests.conftest import Serve
from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.running import FEEDBACK, RESPONSE, ROOT, RunningServer, ce, free_port, peer

DEPLOY, KNATIVE = ROOT / "deploy", ROOT / "knative"
PLAIN = DEPLOY / "overlays/plain"
BUILT = sorted(
    path.parent
    for folder in (DEPLOY, KNATIVE)
    for path in folder.rglob("kustomization.yaml")
    if kustomize.load(path)[0]["kind"] == "Kustomization"
)
EXAMPLES = sorted((DEPLOY / "examples").rglob("*.yaml"))
SERVER = "feedback-metrics-server"
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "part-of")}
STATE = "/var/lib/feedback-metrics-server"
PAIR = {"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "truth": {"data": {"ndarray": [[0, 1]]}}}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_set = pytest.mark.parametrize("directory", BUILT, ids=_id)


def _of(objects: list[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def _named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [found for found in _of(objects, kind) if found["metadata"]["name"] == name]
    return found


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


@pytest.mark.parametrize("path", sorted([*DEPLOY.rglob("*.yaml"), *KNATIVE.rglob("*.yaml")]), ids=_id)
def test_no_key_stands_twice(path: Path) -> None:
    """Every file is YAML, and no mapping says a thing twice: the last would win, silently."""
    for node in yaml.compose_all(path.read_text()):
        assert all(len(keys) == len(set(keys)) for keys in _keys(node))


@pytest.mark.parametrize(
    "path", sorted([*DEPLOY.rglob("kustomization.yaml"), *KNATIVE.rglob("kustomization.yaml")]), ids=_id
)
def test_a_kustomization_names_what_is_there(path: Path) -> None:
    """Each resource exists, and each manifest beside it is used."""
    (plan,) = kustomize.load(path)
    named = {
        *plan.get("resources", []),
        *(name for entry in plan.get("configMapGenerator", []) for name in entry["files"]),
    }
    assert all((path.parent / name).exists() for name in {*named, *plan.get("components", [])})
    beside = {found.name for found in path.parent.glob("*.yaml") if "kind.x-k8s.io" not in found.read_text()}
    assert beside - {"kustomization.yaml"} <= named


@every_set
def test_kubectl_builds_the_same(directory: Path) -> None:
    """What these tests read is what kubectl would apply, but for the hash in a ConfigMap's name."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed; Debian's is too old to read these files")
    done = subprocess.run(
        [kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=True, timeout=60
    )
    hashed = {found["metadata"]["name"] for found in _of(list(yaml.safe_load_all(done.stdout)), "ConfigMap")}
    text = done.stdout
    for name in hashed:
        text = text.replace(name, re.sub(r"-[a-z0-9]{10}$", "", name))
    assert _by_name(list(yaml.safe_load_all(text))) == _by_name(kustomize.build(directory))


def _by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    found = {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}
    assert len(found) == len(objects)
    return found


@every_set
def test_names_labels_and_ports_agree(directory: Path) -> None:
    """Whatever refers to something within a set finds it: selectors, ports, volumes, accounts, subscribers, routes."""
    objects = kustomize.build(directory)
    for service in _of(objects, "Service"):
        if "selector" not in service["spec"]:  # a Knative Service
            continue
        (workload,) = _selected(service["spec"]["selector"], objects)
        ports = {
            name
            for container in kustomize.containers(workload)
            for port in container.get("ports", [])
            for name in port.values()
        }
        if directory != PLAIN:
            assert [port["name"] for port in service["spec"]["ports"]] == ["http"]
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for found in _of(objects, "PodDisruptionBudget", "NetworkPolicy"):
        selector = found["spec"].get("selector") or found["spec"]["podSelector"]
        assert _selected(selector["matchLabels"], objects), found["metadata"]["name"]
    for found in _of(objects, "Deployment"):
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
        _named(objects, "ServiceAccount", account)
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            _named(objects, "ConfigMap", volume["configMap"]["name"])
        if "persistentVolumeClaim" in volume:
            _named(objects, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
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
    for monitor in _of(objects, "ServiceMonitor"):
        service = _named(objects, "Service", SERVER)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [(end["port"], end["path"]) for end in monitor["spec"]["endpoints"]] == [("http", "/v1/metrics")]
    for monitor in _of(objects, "PodMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"] == {"serving.knative.dev/service": SERVER}
        assert [(end["port"], end["path"]) for end in monitor["spec"]["podMetricsEndpoints"]] == [
            ("user-port", "/v1/metrics")
        ]
    for route in _of(objects, "Route"):
        assert (route["spec"]["to"]["name"], route["spec"]["port"]["targetPort"], route["spec"]["path"]) == (
            SERVER,
            "http",
            "/v1/feedback",
        )
    for service in _of(objects, "VirtualService"):
        _named(objects, "Gateway", *service["spec"]["gateways"])
        ((match, target),) = [(entry["match"], entry["route"]) for entry in service["spec"]["http"]]
        assert match == [{"uri": {"exact": "/v1/feedback"}, "method": {"exact": "POST"}}]
        assert target == [{"destination": {"host": SERVER, "port": {"number": 80}}}]
    for mapping in _of(objects, "Mapping"):
        assert (mapping["spec"]["service"], mapping["spec"]["prefix"], mapping["spec"]["rewrite"]) == (
            f"{SERVER}:80",
            "/v1/feedback",
            "",
        )
        (host,) = _of(objects, "Host")
        assert host["spec"]["hostname"] == mapping["spec"]["hostname"]
        assert host["spec"]["mappingSelector"]["matchLabels"].items() <= mapping["metadata"]["labels"].items()
    for dashboard in _of(objects, "GrafanaDashboard"):
        reference = dashboard["spec"]["configMapRef"]
        assert reference["key"] in _named(objects, "ConfigMap", reference["name"])["data"]
    if boards := _of(objects, "GrafanaDashboard"):
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
                assert container["image"] in (f"{SERVER}:{__version__}", f"{SERVER}-demo:{__version__}")
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


def test_openshift_chooses_the_ids() -> None:
    """The overlay leaves no user and no group to the manifest."""
    (server,) = _of(kustomize.build(DEPLOY / "overlays/openshift"), "Deployment")
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & server["spec"]["template"]["spec"]["securityContext"].keys()


def test_the_plain_overlay_swaps_the_image_and_nothing_else() -> None:
    """The walkthrough's manifest differs from what is applied in one field."""
    before = kustomize.load(PLAIN / "metrics-server.yaml")
    after = kustomize.build(PLAIN)
    expected = copy.deepcopy(before)
    next(iter(kustomize.containers(expected[0])))["image"] = f"{SERVER}:{__version__}"
    assert after == expected != before


def _servers(directory: Path) -> list[tuple[Object, Object]]:
    """Workload and container of each server in a set."""
    return [
        (found, container)
        for found in kustomize.build(directory)
        for container in kustomize.containers(found)
        if container["image"].startswith(f"{SERVER}:") and "command" not in container
    ]


def _image_environment() -> dict[str, str]:
    return dict(re.findall(r"\b(METRICS_SERVER_\w+)=(\S+)", (DEPLOY / "image/Dockerfile").read_text()))


STARTED = ["deploy/base", "deploy/overlays/plain", "knative/serving"]


@every_set
def test_every_server_is_one_of_those_that_are_started(directory: Path) -> None:
    """No set has a server whose container is not tried below."""
    tried = [container for name in STARTED for _, container in _servers(ROOT / name)]
    assert all(container in tried for _, container in _servers(directory))


@pytest.mark.parametrize("name", STARTED)
def test_the_arguments_start_a_server(name: str, serve: Serve, tmp_path: Path) -> None:
    """With the image's environment, the container's arguments and its volumes there is a server; its probes and its
    metrics answer."""
    ((_, container),) = _servers(ROOT / name)
    for directory in ("etc", "state"):
        (tmp_path / directory).mkdir()
    config = kustomize.build(DEPLOY / "base")
    (tmp_path / "etc/config.yaml").write_text(_named(config, "ConfigMap", SERVER)["data"]["config.yaml"])

    def here(text: str) -> str:
        return text.replace(STATE, str(tmp_path / "state")).replace(
            "/etc/feedback-metrics-server", str(tmp_path / "etc")
        )

    words = " ".join(container["args"])
    arguments = re.sub(r"--http_port[ =]\S+ ", "", words).split()
    drop_in = arguments[-1] == "MetricsServer"
    environment = {entry["name"]: entry["value"] for entry in container.get("env", [])}
    environment |= {key: here(value) for key, value in _image_environment().items()}
    environment |= {"METRICS_SERVER_HOST": "127.0.0.1", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    options = [here(word) for word in arguments if word != "MetricsServer"]
    server = serve(*options, "--shutdown_delay", "0", environment=environment, drop_in=drop_in)
    if not drop_in:
        assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/healthz"}
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert "--host=0.0.0.0" in arguments
    for path in ("/healthz", "/readyz", "/v1/metrics"):
        assert server.get(path).status == 200
    assert server.post(PAIR, ce(FEEDBACK, "1", "r")).status == 200
    assert (tmp_path / "state/state.db").exists()
    server.stop()
    told = f"a volume at {tmp_path}/state would keep it longer" in server.log.read_text()
    assert told is not on_volume(tmp_path / "state/state.db")


def test_the_pod_is_given_the_time_to_stop() -> None:
    """The grace period is longer than what the settings allow the server."""
    objects = kustomize.build(DEPLOY / "base")
    (server,) = _of(objects, "Deployment")
    settings = yaml.safe_load(_named(objects, "ConfigMap", SERVER)["data"]["config.yaml"])
    assert (
        server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        > settings["shutdown_delay"] + settings["drain_seconds"]
    )


def test_one_process_owns_the_state() -> None:
    """No set runs two servers on one state, not for the moment of an update either."""
    (server,) = _of(kustomize.build(DEPLOY / "base"), "Deployment")
    assert (server["spec"]["replicas"], server["spec"]["strategy"]) == (1, {"type": "Recreate"})
    (service,) = [found for found in kustomize.load(KNATIVE / "serving/service.yaml") if found["kind"] == "Service"]
    scales = service["spec"]["template"]["metadata"]["annotations"]
    assert (scales["autoscaling.knative.dev/min-scale"], scales["autoscaling.knative.dev/max-scale"]) == ("1", "1")


def _matches(filters: list[Object], attributes: dict[str, str]) -> bool:
    """A Trigger's filters, of the dialects that stand in ours."""
    return all(_match(entry, attributes) for entry in filters)


def _match(entry: Object, attributes: dict[str, str]) -> bool:
    ((dialect, said),) = entry.items()
    if dialect == "any":
        return any(_match(inner, attributes) for inner in said)
    assert dialect == "exact"
    return all(attributes.get(name) == value for name, value in said.items())


def _triggers(directory: Path) -> list[Object]:
    """The Triggers that lead to the server, by a Sequence too."""
    objects = kustomize.build(directory)
    leading = [SERVER]
    for sequence in _of(objects, "Sequence"):
        assert [step["ref"]["name"] for step in sequence["spec"]["steps"]] == [SERVER]
        leading.append(sequence["metadata"]["name"])
    return [found for found in _of(objects, "Trigger") if found["spec"]["subscriber"]["ref"]["name"] in leading]


@pytest.mark.parametrize("name", ["knative/serving", "deploy/overlays/plain"])
def test_no_trigger_takes_our_replies_for_input(name: str, serve: Serve) -> None:
    """The event that a server of these arguments really answers passes no filter that leads to a server; all that we
    read does."""
    ((_, container),) = _servers(ROOT / name)
    arguments = re.findall(r"(--event_\w+)[ =](\S+)", " ".join(container["args"]))
    server = serve("--store", "memory://", *(word for pair in arguments for word in pair))
    answer = server.post(PAIR, ce(FEEDBACK, "1", "r"))
    reply = from_binary_event(HTTPMessage(dict(answer.headers.items()), answer.body))  # type: ignore[attr-defined]
    for directory in (KNATIVE / "deployment", KNATIVE / "serving", KNATIVE / "sequence"):
        triggers = _triggers(directory)
        assert triggers
        for trigger in triggers:
            assert "filter" not in trigger["spec"]
            assert not _matches(trigger["spec"]["filters"], reply.get_attributes())
        for kind in KINDS:
            assert (
                len([trigger for trigger in triggers if _matches(trigger["spec"]["filters"], {"type": kind})]) == 1
            ), kind


def test_triggers_filter_by_types_that_no_reply_may_have() -> None:
    """Each filter asks for a type that is refused as --event_type, so that no setting makes a loop."""
    for trigger in _triggers(KNATIVE / "deployment"):
        ((said,),) = [entry.values() for entry in trigger["spec"]["filters"]]
        types = [entry["exact"]["type"] for entry in said]
        assert set(types) <= KINDS.keys()
        for kind in types:
            with pytest.raises(BadConfiguration, match="replies would come back as input"):
                Settings(event_type=kind, event_source="x")


@pytest.mark.parametrize("name", ["deployment", "serving", "sequence"])
def test_brokers_triggers_and_sinks_are_there(name: str) -> None:
    """Triggers name the Broker, subscribers and dead letter sinks exist, and the replies lead to no server."""
    objects = kustomize.build(KNATIVE / name)
    (broker,) = _of(objects, "Broker")
    assert {trigger["spec"]["broker"] for trigger in _of(objects, "Trigger")} == {broker["metadata"]["name"]}
    sequences = _of(objects, "Sequence")
    targets = [trigger["spec"]["subscriber"]["ref"] for trigger in _of(objects, "Trigger")]
    targets += [broker["spec"]["delivery"]["deadLetterSink"]["ref"]]
    targets += [step["ref"] for sequence in sequences for step in sequence["spec"]["steps"]]
    targets += [sequence["spec"]["reply"]["ref"] for sequence in sequences]
    have = {(found["apiVersion"], found["kind"], found["metadata"]["name"]) for found in objects}
    assert {(target["apiVersion"], target["kind"], target["name"]) for target in targets} <= have


def test_kafka_records_come_to_the_server() -> None:
    """The source's sink is the server's Service, in the namespace of the Deployment."""
    (source,) = kustomize.build(KNATIVE / "kafka")
    deployed = kustomize.build(KNATIVE / "deployment")
    assert (
        source["metadata"]["namespace"]
        == _named(deployed, "Service", source["spec"]["sink"]["ref"]["name"])["metadata"]["namespace"]
    )
    _named(deployed, "Service", source["spec"]["delivery"]["deadLetterSink"]["ref"]["name"])


def test_the_printer_says_what_could_not_be_delivered(tmp_path: Path) -> None:
    """A dead letter is a line with its ids and the answer it got; its payload is not printed, and the answer has no
    body."""
    (printer,) = _of(kustomize.build(KNATIVE / "printer"), "Deployment")
    (container,) = kustomize.containers(printer)
    assert container["command"][1] == "/etc/event-printer/event_printer.py"
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, KNATIVE / "printer/event_printer.py", str(port)], stdout=output, stderr=output
        )
    try:
        letter = ce(RESPONSE, "17", "r", knativeerrorcode="422", knativeerrordest="http://feedback-metrics-server/")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", b'{"name": "patient-77"}', letter)
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    assert (answer.status, answer.read()) == (202, b"")
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(10)
    (line,) = log.read_text().splitlines()
    assert "id='17' requestid='r'" in line
    assert "knativeerrorcode='422'" in line
    assert "patient" not in line


def test_the_rule_object_is_that_of_the_rule_files() -> None:
    """The PrometheusRule holds the groups of deploy/rules, as its script writes them."""
    folder = DEPLOY / "components/prometheus-operator"
    spec = importlib.util.spec_from_file_location("prometheus_rule", folder / "prometheus_rule.py")
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (folder / "prometheus-rule.yaml").read_text()
    assert text == script.manifest(), "run `make docs`"
    (rule,) = yaml.safe_load_all(text)
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


@pytest.mark.parametrize("path", EXAMPLES, ids=_id)
def test_the_examples_log_to_the_service(path: Path) -> None:
    """Each predictor logs all it does to the Service of the overlays, and traffic adds up."""
    service = _named(kustomize.build(DEPLOY / "overlays/prometheus-operator"), "Service", SERVER)
    url = f"http://{SERVER}.{service['metadata']['namespace']}.svc.cluster.local/"
    for model in _of(kustomize.load(path), "SeldonDeployment", "InferenceService"):
        predictors = model["spec"].get("predictors", [model["spec"].get("predictor")])
        loggers = list(_loggers(model["spec"]))
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


def test_the_kustomizations_in_the_page_build(tmp_path: Path) -> None:
    """What the page tells to write, put together, names what is there; kubectl builds it, with the reader's settings
    and the token."""
    page = (ROOT / "docs/how-to/deploy-on-kubernetes.md").read_text()
    plan: Object = {}
    for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE):
        plan |= yaml.safe_load(block)
    assert all((DEPLOY / name).exists() for name in [*plan["resources"], *plan["components"]])
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    (tmp_path / "production").mkdir()
    (tmp_path / "production/kustomization.yaml").write_text(yaml.safe_dump(plan))
    (tmp_path / "production/config.yaml").write_text("retention: 7d\n")
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", tmp_path / "production"], capture_output=True, text=True, check=True, timeout=60
    )
    (server,) = _of(list(yaml.safe_load_all(done.stdout)), "Deployment")
    (container,) = kustomize.containers(server)
    assert container["args"][-1].startswith("--token_file=/run/secrets/feedback/")
    assert container["image"].endswith(f"/{SERVER}:{__version__}")
    assert "retention: 7d" in done.stdout


def test_the_laptops_cluster_comes_up_in_order(tmp_path: Path) -> None:
    """With programs that only note how they are called, the script builds what the manifests name, loads it, and
    applies what is there."""
    for program in ("docker", "kind", "kubectl"):
        (tmp_path / program).write_text(f'#!{peer("bash")}\necho "{program} $*" >> "{tmp_path}/calls"\n')
        (tmp_path / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([DEPLOY / "kind/up.sh"], env=environment, check=True, timeout=30, stdout=subprocess.DEVNULL)
    calls = (tmp_path / "calls").read_text().splitlines()
    verbs = [" ".join(re.sub(r"--(context|namespace) \S+ ", "", call).split()[:2]) for call in calls]
    assert verbs == [
        *["docker build"] * 2,
        "kind get",
        "kind create",
        "kind load",
        "kubectl apply",
        *["kubectl rollout"] * 4,
    ]
    images = {
        container["image"] for found in kustomize.build(DEPLOY / "kind") for container in kustomize.containers(found)
    }
    assert images == set(re.findall(r"--tag (\S+)", "\n".join(calls[:2]))) == set(calls[4].split()[-2:])
    for path in re.findall(r"(?:--file|--config|--kustomize) (\S+)", "\n".join(calls)):
        assert (ROOT / path).exists()
    for target in re.findall(r"--target (\S+)", "\n".join(calls)):
        assert re.search(rf"^FROM .* AS {target}$", (DEPLOY / "image/Dockerfile").read_text(), re.MULTILINE)


def test_the_laptops_port_leads_to_the_server() -> None:
    """What kind maps to this machine is the node port of the Service, on loopback alone."""
    (cluster,) = kustomize.load(DEPLOY / "kind/cluster.yaml")
    (mapping,) = cluster["nodes"][0]["extraPortMappings"]
    (port,) = _named(kustomize.build(DEPLOY / "kind"), "Service", SERVER)["spec"]["ports"]
    assert (mapping["containerPort"], mapping["hostPort"], mapping["listenAddress"]) == (
        port["nodePort"],
        8080,
        "127.0.0.1",
    )


def test_the_simulator_finds_the_server(serve: Serve) -> None:
    """The simulator's arguments are options of the command, and its address is that of the Service."""
    (simulator,) = kustomize.load(DEPLOY / "kind/simulator.yaml")
    (container,) = kustomize.containers(simulator)
    assert container["args"] == ["simulate", f"--url=http://{SERVER}"]
    probe = container["readinessProbe"]["exec"]["command"]
    server: RunningServer = serve("--store", "memory://")
    reached = [sys.executable, *probe[1:-1], probe[-1].replace("8003", str(server.port))]
    subprocess.run(reached, check=True, timeout=20)
