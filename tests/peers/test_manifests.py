"""The manifests say what the server does: names that agree, probes that answer, arguments that start it, filters that
cannot loop.

What a cluster makes of them (pulled images, the operators' own code, the data path of an ingress) is not seen here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event

from metrics_server import __version__
from metrics_server.__main__ import on_volume
from metrics_server.ingest.cloudevent import KINDS
from tests.conftest import Serve
from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.manifests import (
    DEPLOY,
    KNATIVE,
    SERVER,
    STARTED,
    every_set,
    object_named,
    objects_of,
    servers_of,
    triggers_of,
)
from tests.support.running import FEEDBACK, RESPONSE, ROOT, RunningServer, ce, free_port, peer

STATE = "/var/lib/feedback-metrics-server"
PAIR = {"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "truth": {"data": {"ndarray": [[0, 1]]}}}


@every_set
def test_kubectl_builds_the_same(directory: Path) -> None:
    """What these tests read is what kubectl would apply, but for the hash in a ConfigMap's name."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed; Debian's is too old to read these files")
    done = subprocess.run(
        [kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=True, timeout=60
    )
    hashed = {found["metadata"]["name"] for found in objects_of(list(yaml.safe_load_all(done.stdout)), "ConfigMap")}
    text = done.stdout
    for name in hashed:
        text = text.replace(name, re.sub(r"-[a-z0-9]{10}$", "", name))
    assert _by_name(list(yaml.safe_load_all(text))) == _by_name(kustomize.build(directory))


def _by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    found = {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}
    assert len(found) == len(objects)
    return found


def _image_environment() -> dict[str, str]:
    return dict(re.findall(r"\b(METRICS_SERVER_\w+)=(\S+)", (DEPLOY / "image/Dockerfile").read_text()))


@pytest.mark.parametrize("name", STARTED)
def test_the_arguments_start_a_server(name: str, serve: Serve, tmp_path: Path) -> None:
    """With the image's environment, the container's arguments and its volumes there is a server; its probes and its
    metrics answer."""
    ((_, container),) = servers_of(ROOT / name)
    for directory in ("etc", "state"):
        (tmp_path / directory).mkdir()
    config = kustomize.build(DEPLOY / "base")
    (tmp_path / "etc/config.yaml").write_text(object_named(config, "ConfigMap", SERVER)["data"]["config.yaml"])

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


def _matches(filters: list[Object], attributes: dict[str, str]) -> bool:
    """A Trigger's filters, of the dialects that stand in ours."""
    return all(_match(entry, attributes) for entry in filters)


def _match(entry: Object, attributes: dict[str, str]) -> bool:
    ((dialect, said),) = entry.items()
    if dialect == "any":
        return any(_match(inner, attributes) for inner in said)
    assert dialect == "exact"
    return all(attributes.get(name) == value for name, value in said.items())


@pytest.mark.parametrize("name", ["knative/serving", "deploy/overlays/plain"])
def test_no_trigger_takes_our_replies_for_input(name: str, serve: Serve) -> None:
    """The event that a server of these arguments really answers passes no filter that leads to a server; all that we
    read does."""
    ((_, container),) = servers_of(ROOT / name)
    arguments = re.findall(r"(--event_\w+)[ =](\S+)", " ".join(container["args"]))
    server = serve("--store", "memory://", *(word for pair in arguments for word in pair))
    answer = server.post(PAIR, ce(FEEDBACK, "1", "r"))
    reply = from_binary_event(HTTPMessage(dict(answer.headers.items()), answer.body))  # type: ignore[attr-defined]
    for directory in (KNATIVE / "deployment", KNATIVE / "serving", KNATIVE / "serving-postgres", KNATIVE / "sequence"):
        triggers = triggers_of(directory)
        assert triggers
        for trigger in triggers:
            assert "filter" not in trigger["spec"]
            assert not _matches(trigger["spec"]["filters"], reply.get_attributes())
        for kind in KINDS:
            assert (
                len([trigger for trigger in triggers if _matches(trigger["spec"]["filters"], {"type": kind})]) == 1
            ), kind


@pytest.mark.parametrize("name", ["deployment", "serving", "serving-postgres", "sequence"])
def test_brokers_triggers_and_sinks_are_there(name: str) -> None:
    """Triggers name the Broker, subscribers and dead letter sinks exist, and the replies lead to no server."""
    objects = kustomize.build(KNATIVE / name)
    (broker,) = objects_of(objects, "Broker")
    assert {trigger["spec"]["broker"] for trigger in objects_of(objects, "Trigger")} == {broker["metadata"]["name"]}
    sequences = objects_of(objects, "Sequence")
    targets = [trigger["spec"]["subscriber"]["ref"] for trigger in objects_of(objects, "Trigger")]
    targets += [broker["spec"]["delivery"]["deadLetterSink"]["ref"]]
    targets += [step["ref"] for sequence in sequences for step in sequence["spec"]["steps"]]
    targets += [sequence["spec"]["reply"]["ref"] for sequence in sequences]
    have = {(found["apiVersion"], found["kind"], found["metadata"]["name"]) for found in objects}
    assert {(target["apiVersion"], target["kind"], target["name"]) for target in targets} <= have


def test_the_printer_says_what_could_not_be_delivered(tmp_path: Path) -> None:
    """A dead letter is a line with its ids and the answer it got; its payload is not printed, and the answer has no
    body."""
    (printer,) = objects_of(kustomize.build(KNATIVE / "printer"), "Deployment")
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
        process.wait(30)
    (line,) = log.read_text().splitlines()
    assert "id='17' requestid='r'" in line
    assert "knativeerrorcode='422'" in line
    assert "patient" not in line


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
    (server,) = objects_of(list(yaml.safe_load_all(done.stdout)), "Deployment")
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


def test_the_simulator_finds_the_server(serve: Serve) -> None:
    """The simulator's arguments are options of the command, and its address is that of the Service."""
    (simulator,) = kustomize.load(DEPLOY / "kind/simulator.yaml")
    (container,) = kustomize.containers(simulator)
    assert container["args"] == ["simulate", f"--url=http://{SERVER}"]
    probe = container["readinessProbe"]["exec"]["command"]
    server: RunningServer = serve("--store", "memory://")
    reached = [sys.executable, *probe[1:-1], probe[-1].replace("8003", str(server.port))]
    subprocess.run(reached, check=True, timeout=20)
