"""compose.yaml without a container engine: its structure, and its services as native processes wherever their programs
are at hand.

Grafana is not: of it only the provisioning is checked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.live_server import Page
from tests.support.running import ROOT, free_port, peer
from tests.support.waiting import until

COMPOSE = ROOT / "deploy/compose"
STACK = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
PROMETHEUS = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
RECEIVER = COMPOSE / "slack_receiver.py"

PORTS = {
    "server": 8080,
    "simulator": 8003,
    "prometheus": 9090,
    "alertmanager": 9093,
    "slack": 8060,
    "grafana": 3000,
    "node-exporter": 9100,
}
OURS = [sys.executable, "-m", "metrics_server"]  # what the entry point of our images starts
# What the entry point of an image is here, and how it is told to listen on a port of the test's.
PROGRAMS = {
    "server": (OURS, "--http_port {port}"),
    "slack": ([], "--port {port}"),
    "alertmanager": (["prometheus-alertmanager"], "--web.listen-address=127.0.0.1:{port}"),
    "node-exporter": (["prometheus-node-exporter"], "--web.listen-address=127.0.0.1:{port}"),
    "prometheus": (["prometheus"], "--web.listen-address=127.0.0.1:{port}"),
    "simulator": (OURS, "--ingress_port {port} --past 1 --label_delay 0"),
}
CRITICAL = {
    "labels": {"alertname": "ModelTest", "severity": "critical"},
    "annotations": {"summary": "compose works", "runbook_url": "none"},
}


def _mounts(service: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Source, target and mode of each volume."""
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        yield source, target, mode[0] if mode else "rw"


def _source(source: str) -> Path:
    """Relative sources are relative to compose.yaml."""
    return (COMPOSE / source).resolve()


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_confined(name: str) -> None:
    """No service writes to its root, has a capability or gains one, moves with a tag, or listens beyond this
    machine."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+[\w.-]*", service["image"])
    assert set(service.get("ports", [])) <= {f"127.0.0.1:{PORTS.get(name)}:{PORTS.get(name)}"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_says_when_it_is_healthy_and_waits_for_those_that_do(name: str) -> None:
    """Each has a health check, but for the load that ends; who waits for another waits for its health."""
    assert ("healthcheck" in SERVICES[name]) is (name != "locust")
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


def test_what_is_mounted_is_there() -> None:
    """Each source of a mount exists and is read only, each volume and secret is declared."""
    for name, service in SERVICES.items():
        for source, target, mode in _mounts(service):
            if source[0] in "./":
                assert _source(source).exists(), f"{name}: {source}"
                assert mode == "ro", f"{name}: {target}"
            else:
                assert source in STACK["volumes"]
        assert set(service.get("secrets", [])) <= set(STACK["secrets"])
    assert set(STACK["volumes"]) == {
        source for one in SERVICES.values() for source, _, _ in _mounts(one) if source[0] not in "./"
    }


def test_images_are_built_from_stages_that_exist() -> None:
    """Context, Dockerfile and target of each build are there, and a stand-in needs no second base image."""
    dockerfile = (ROOT / "deploy/image/Dockerfile").read_text()
    for service in SERVICES.values():
        if build := service.get("build"):
            assert _source(build["context"]) == ROOT
            assert (ROOT / build["dockerfile"]).is_file()
            assert f" AS {build['target']}\n" in dockerfile
    assert f"ARG BASE={SERVICES['slack']['image']}\n" in dockerfile


def test_prometheus_takes_all_rules_and_the_service_by_its_job() -> None:
    """promtool is content, no rule file is left out, and each target is a service at its port."""
    subprocess.run(
        [peer("promtool"), "check", "config", COMPOSE / "prometheus.yml"], check=True, stdout=subprocess.DEVNULL
    )
    rules = {
        path
        for path in (ROOT / "deploy/rules").glob("*.yaml")
        if "_test" not in path.name and path.name != "kustomization.yaml"
    }
    assert {_source(name) for name in PROMETHEUS["rule_files"]} == rules
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    assert jobs["feedback-metrics-server"]["metrics_path"] == "/v1/metrics"
    targets = [job["static_configs"][0]["targets"] for job in jobs.values()]
    assert sorted(targets) == [["alertmanager:9093"], ["localhost:9090"], ["node-exporter:9100"], ["server:8080"]]


def test_grafana_opens_on_the_quality_dashboard() -> None:
    """Anonymous viewers, the home dashboard, the folder of dashboards and the data source agree with the mounts."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    targets = {target: _source(source) for source, target, _ in _mounts(SERVICES["grafana"])}
    provisioning = targets["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/dashboards.yaml").read_text())["providers"]
    folder, name = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].rsplit("/", 1)
    assert provider["options"]["path"] == folder
    assert json.loads((targets[folder] / name).read_text())["uid"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{PORTS['prometheus']}"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


class Native:
    """The services as processes: mounts become copies below a root for each, names and ports those of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {name: free_port() for name in PORTS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Starts a service, and returns when its health check says that it is healthy."""
        program, listen = PROGRAMS[name]
        words = [*program, *SERVICES[name]["command"], *listen.format(port=self.ports[name]).split()]
        root = self.files(name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("METRICS_SERVER_")}
        with self.log(name).open("wb") as output:
            self.processes[name] = subprocess.Popen(
                self.words(name, words),
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        check = self.words(name, SERVICES[name]["healthcheck"]["test"][1:])
        deadline = time.monotonic() + 60
        while subprocess.run(check, capture_output=True, timeout=20, check=False).returncode:
            assert self.processes[name].poll() is None, self.log(name).read_text()
            assert time.monotonic() < deadline, self.log(name).read_text()
            time.sleep(0.05)

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def stop(self) -> dict[str, int]:
        """Ends those that still run; the status of each."""
        for process in reversed(self.processes.values()):
            process.terminate()
        return {name: process.wait(40) for name, process in self.processes.items()}

    def files(self, name: str) -> Path:
        """The files of a service, their addresses rewritten."""
        root = self.directory / name
        root.mkdir()
        secrets = [
            (STACK["secrets"][one]["file"], f"/run/secrets/{one}", "ro") for one in SERVICES[name].get("secrets", [])
        ]
        for source, target, _ in [*_mounts(SERVICES[name]), *secrets]:
            path = root / target[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            if source[0] == ".":
                shutil.copytree(_source(source), path) if _source(source).is_dir() else shutil.copy(
                    _source(source), path
                )
            elif source[0] != "/":
                path.mkdir()
        for path in (path for path in root.rglob("*") if path.is_file()):
            path.write_text(self._rewritten(name, path.read_text()))
        return root

    def words(self, name: str, words: list[str]) -> list[str]:
        """A command with this machine's programs, paths and ports."""
        here = [self._rewritten(name, word) for word in words]
        program = sys.executable if here[0] == "python" else here[0]
        return [program if Path(program).is_absolute() else peer(program), *here[1:]]

    def _rewritten(self, name: str, text: str) -> str:
        """Paths in a container, names of services and their ports as they are here; a first alert and a scrape do not
        wait for long."""
        targets = {
            target: source if source[0] == "/" else f"{self.directory}/{name}{target}"
            for source, target, _ in _mounts(SERVICES[name])
        }
        targets |= {"/run/secrets": f"{self.directory}/{name}/run/secrets", "/opt": str(ROOT / "deploy/image")}
        paths = "|".join(re.escape(target) for target in sorted(targets, key=len, reverse=True))
        text = re.sub(rf"(?<![\w./-])({paths})\b", lambda found: targets[found[0]], text)
        ports = {str(PORTS[one]): str(port) for one, port in self.ports.items()}
        text = re.sub(rf"(?:\b(?:{'|'.join(PORTS)}):)({'|'.join(ports)})\b", r"127.0.0.1:\1", text)
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: ports[found[0]], text)
        return re.sub(r"\b(group_wait|scrape_interval): \w+", r"\1: 1s", text.replace("0.0.0.0", "127.0.0.1"))


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    """All services that can run here, started as their dependencies want it."""
    with tempfile.TemporaryDirectory() as directory:
        stack = Native(Path(directory))
        try:
            for name in PROGRAMS:
                stack.start(name)
            yield stack
        finally:
            status = stack.stop()
        assert (status["server"], status["simulator"]) == (0, 0), "SIGTERM ends ours cleanly"


def test_the_services_find_each_other(native: Native) -> None:
    """Prometheus scrapes every job, has loaded the rules and has found Alertmanager."""
    deadline = time.monotonic() + 30
    while True:
        targets = _get(native.url("prometheus", "/api/v1/targets"))["data"]["activeTargets"]
        if {target["health"] for target in targets} == {"up"}:
            break
        assert time.monotonic() < deadline, targets
        time.sleep(0.2)
    assert {target["labels"]["job"] for target in targets} == {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    groups = _get(native.url("prometheus", "/api/v1/rules"))["data"]["groups"]
    assert {Path(group["file"]).name for group in groups} == {Path(name).name for name in PROMETHEUS["rule_files"]}
    (found,) = _get(native.url("prometheus", "/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
    assert urlsplit(found["url"]).port == native.ports["alertmanager"]


def test_an_alert_reaches_the_stand_in_for_slack(native: Native) -> None:
    """Alertmanager reads the secret's file and posts to the address in it; the message can be read in the log, and
    listed."""
    request = urllib.request.Request(native.url("alertmanager", "/api/v2/alerts"), json.dumps([CRITICAL]).encode())
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=10).close()
    deadline = time.monotonic() + 20
    while "ModelTest" not in native.log("slack").read_text():
        assert time.monotonic() < deadline, native.log("alertmanager").read_text()
        time.sleep(0.1)
    messages = _get(native.url("slack", "/"))
    assert any("ModelTest" in attachment["title"] for message in messages for attachment in message["attachments"])
    assert "compose works" in native.log("slack").read_text()


def test_the_simulator_and_locust_load_the_server(native: Native) -> None:
    """The simulated deployments are on the server's page; Locust's calls to their ingress do not fail."""

    def predictions() -> float:
        with urllib.request.urlopen(native.url("server", "/v1/metrics"), timeout=10) as answer:
            return Page(answer.read().decode()).value("model_predictions_total", deployment_name="digits")

    until(lambda: predictions() > 0, 60, "the simulator sent nothing")
    service = SERVICES["locust"]
    assert service["network_mode"] == "service:simulator"
    assert service["profiles"] == ["load"]
    told = {key: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for key, value in service["environment"].items()}
    words = native.words("locust", [sys.executable, "-m", "locust", *service["command"]])
    environment = {**os.environ, **told, "LOCUST_RUN_TIME": "2s"}
    done = subprocess.run(
        words, cwd=native.files("locust"), env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_stand_in_answers_as_slack(tmp_path: Path) -> None:
    """A message is answered ok; what Slack refuses is refused in its words, and not listed."""
    with subprocess.Popen([sys.executable, RECEIVER, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            for body, status, word in [
                (
                    b'{"channel": "#models", "attachments": [{"title": "Accuracy", "text": "low\\nsince noon"}]}',
                    200,
                    b"ok",
                ),
                (b'{"text": "hello"}', 200, b"ok"),
                (b"{}", 400, b"no_text"),
                (b"no JSON", 400, b"invalid_payload"),
                (b"[1]", 400, b"invalid_payload"),
            ]:
                assert _posted(url, body) == (status, word)
            assert [message.get("text") for message in _get(url)] == [None, "hello"]
        finally:
            process.terminate()
        lines = [line.split(" ", 1)[1] for line in process.stdout.read().splitlines()]
        assert lines == ["#models", "  Accuracy", "    low", "    since noon", "hello"]


def _posted(url: str, body: bytes) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
