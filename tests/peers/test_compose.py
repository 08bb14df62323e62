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
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.dashboards import BOARDS, Prometheus, choices, expressions, filled
from tests.support.live_server import Page
from tests.support.peers.environments import programs_of
from tests.support.postgres import Postgres
from tests.support.running import ROOT, RunningServer, free_port, peer
from tests.support.waiting import until

COMPOSE = ROOT / "deploy/compose"
STACK = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
PROMETHEUS = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
RECEIVER = COMPOSE / "slack_receiver.py"
MODEL_SERVER = ROOT / "deploy/examples/fastapi"
JSON_TYPE = {"Content-Type": "application/json"}
GRAFANA = COMPOSE / "grafana"
LOADS = ("locust", "locust-ingress")  # what ends by itself

REPLICAS = [name for name, service in SERVICES.items() if "PGHOST" in service.get("environment", {})]

PORTS = {
    "server": 8080,
    "simulator": 8003,
    "model-server": 8000,
    "prometheus": 9090,
    "alertmanager": 9093,
    "slack": 8060,
    "grafana": 3000,
    "node-exporter": 9100,
}
PUBLISHED = dict(zip(REPLICAS, ("8081:8080", "8082:8080", "8083:8080"), strict=True))  # of one machine
OURS = [sys.executable, "-m", "metrics_server"]  # what the entry point of our images starts
# What the entry point of an image is here, and how it is told to listen on a port of the test's.
PROGRAMS = {
    "server": (OURS, "--http_port {port}"),
    "slack": ([], "--port {port}"),
    "alertmanager": (["prometheus-alertmanager"], "--web.listen-address=127.0.0.1:{port}"),
    "node-exporter": (["prometheus-node-exporter"], "--web.listen-address=127.0.0.1:{port}"),
    "prometheus": (["prometheus"], "--web.listen-address=127.0.0.1:{port}"),
    "simulator": (OURS, "--ingress_port {port} --past 1 --label_delay 0"),
    "model-server": (["uvicorn", "--app-dir", str(MODEL_SERVER), "model_server:app"], "--port {port}"),
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
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_confined(name: str) -> None:
    """No service writes to its root, has a capability or gains one, moves with a tag, or listens beyond this
    machine."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+[\w.-]*(?:@sha256:[0-9a-f]{64})?", service["image"])
    published = PUBLISHED.get(name, f"{PORTS.get(name)}:{PORTS.get(name)}")
    assert set(service.get("ports", [])) <= {f"127.0.0.1:{published}"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_says_when_it_is_healthy_and_waits_for_those_that_do(name: str) -> None:
    """Each has a health check, but for the load that ends; who waits for another waits for its health."""
    assert ("healthcheck" in SERVICES[name]) is (name not in LOADS)
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
    for service in SERVICES.values():
        if build := service.get("build"):
            context = _source(build["context"])
            stages = (context / build.get("dockerfile", "Dockerfile")).read_text()
            assert f"ARG BASE={SERVICES['slack']['image']}\n" in stages
            assert "target" not in build or f" AS {build['target']}\n" in stages


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
    targets = {job["static_configs"][0]["targets"][0]: job.get("scrape_interval") for job in jobs.values()}
    assert targets == {
        "server:8080": None,
        "alertmanager:9093": None,
        "model-server:8000": "1s",
        "simulator:8003": None,
        "localhost:9090": "1s",
        "node-exporter:9100": "1s",
    }


def test_grafana_opens_on_the_quality_dashboard() -> None:
    """Anonymous viewers, the home dashboard, the folders of dashboards and the data source agree with the mounts."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    targets = {target: _source(source) for source, target, _ in _mounts(SERVICES["grafana"])}
    provisioning = targets["/etc/grafana/provisioning"]
    providers = yaml.safe_load((provisioning / "dashboards/dashboards.yaml").read_text())["providers"]
    folders = [provider["options"]["path"] for provider in providers]
    boards = [json.loads(path.read_text()) for place in folders for path in sorted(targets[place].glob("*.json"))]
    assert len({board["uid"] for board in boards}) == len(boards) > len(list(GRAFANA.glob("dashboards/*.json"))) > 0
    folder, name = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].rsplit("/", 1)
    assert folder in folders
    assert json.loads((targets[folder] / name).read_text())["uid"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{PORTS['prometheus']}"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_an_admin_of_the_environments_choice_can_log_in_to_grafana() -> None:
    """There is a login form and an administrator, who may import and build dashboards; who has no login may look."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_USER"] == "${GRAFANA_USER:-admin}"
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-admin}"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    shut = {"GF_AUTH_DISABLE_LOGIN_FORM", "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "GF_AUTH_DISABLE_LOGIN"}
    assert not shut & environment.keys()
    assert ("/var/lib/grafana", "rw") in {(target, mode) for _, target, mode in _mounts(SERVICES["grafana"])}


def test_the_dashboards_of_compose_are_those_of_the_builder(tmp_path: Path) -> None:
    """Building them anew changes no byte."""
    build = [sys.executable, "-m", "deploy.dashboards.builder.compose", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert built == {path.name: path.read_bytes() for path in (GRAFANA / "dashboards").glob("*.json")}


def test_compose_yaml_keeps_the_specification() -> None:
    """What stands in compose.yaml are elements of the Compose Specification, with values of their types."""
    checker = programs_of("check-jsonschema==0.37.4") / "check-jsonschema"
    words = [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def _copy(source: Path, path: Path) -> None:
    """Copies a file or a directory, without what Python has compiled."""
    if source.is_dir():
        shutil.copytree(source, path, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, path)


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
        told = {key: self.here(name, value) for key, value in SERVICES[name].get("environment", {}).items()}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("METRICS_SERVER_")} | told
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
                _copy(_source(source), path)
            elif source[0] != "/":
                path.mkdir()
        for path in (path for path in root.rglob("*") if path.is_file()):
            path.write_text(self.here(name, path.read_text()))
        return root

    def words(self, name: str, words: list[str]) -> list[str]:
        """A command with this machine's programs, paths and ports."""
        here = [self.here(name, word) for word in words]
        program = sys.executable if here[0] == "python" else here[0]
        return [program if Path(program).is_absolute() else _program(program), *here[1:]]

    def here(self, name: str, text: str) -> str:
        """Paths in a container, names of services and their ports as they are here; a first alert and a scrape do not
        wait for long."""
        targets = {
            target: source if source[0] == "/" else f"{self.directory}/{name}{target}"
            for source, target, _ in _mounts(SERVICES[name])
        }
        targets |= {"/run/secrets": f"{self.directory}/{name}/run/secrets", "/opt": str(ROOT / "deploy/image")}
        paths = "|".join(re.escape(target) for target in sorted(targets, key=len, reverse=True))
        # The path that executors are asked at is spelled as the directory of Prometheus is.
        text = re.sub(rf"(?<![\w./-])(?<!metrics_path: )({paths})\b", lambda found: targets[found[0]], text)
        ports = {str(PORTS[one]): str(port) for one, port in self.ports.items()}
        text = re.sub(rf"(?:\b(?:{'|'.join(PORTS)}):)({'|'.join(ports)})\b", r"127.0.0.1:\1", text)
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: ports[found[0]], text)
        return re.sub(r"\b(group_wait|scrape_interval): \w+", r"\1: 1s", text.replace("0.0.0.0", "127.0.0.1"))


def _program(name: str) -> str:
    """A program of the machine, or of the packages that the model server's image has."""
    if name == "uvicorn":
        return str(programs_of(*(MODEL_SERVER / "requirements.txt").read_text().split()) / name)
    return peer(name)


def test_the_servers_of_the_profile_are_equal(tmp_path: Path) -> None:
    """Each of the three, as it is started, shows what another was sent; Prometheus scrapes each by its name."""
    assert all(SERVICES[name]["profiles"] == ["replicated"] for name in [*REPLICAS, "postgres"])
    assert PROMETHEUS["scrape_configs"][0]["dns_sd_configs"] == [{"names": REPLICAS, "type": "A", "port": 8080}]
    database = SERVICES["postgres"]["environment"]
    postgres = Postgres().create()
    postgres.execute(f"CREATE ROLE {database['POSTGRES_USER']} LOGIN")
    postgres.execute(f"CREATE DATABASE {database['POSTGRES_DB']} OWNER {database['POSTGRES_USER']}")
    here = {"postgres": "127.0.0.1", database["POSTGRES_PASSWORD"]: "metrics"}
    servers: list[RunningServer] = []
    try:
        for name in REPLICAS:
            environment = {key: here.get(value, value) for key, value in SERVICES[name]["environment"].items()}
            environment["PGPORT"] = str(postgres.port)
            servers.append(RunningServer(tmp_path, *SERVICES[name]["command"], environment=environment))
        statement = {"deployment": "wine", "prediction": 0, "truth": 0}
        assert servers[0].post(statement, JSON_TYPE, "/v1/feedback").status == 200
        for server in servers:
            until(
                lambda at=server: at.value("model_decisions_total", deployment_name="wine"), 10, "it does not show it"
            )
    finally:
        for server in servers:
            server.stop()
        postgres.stop()


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
    urllib.request.urlopen(request, timeout=30).close()
    deadline = time.monotonic() + 40
    while "ModelTest" not in native.log("slack").read_text():
        assert time.monotonic() < deadline, native.log("alertmanager").read_text()
        time.sleep(0.1)
    messages = _get(native.url("slack", "/"))
    assert any("ModelTest" in attachment["title"] for message in messages for attachment in message["attachments"])
    assert "compose works" in native.log("slack").read_text()


def _page_value(native: Native, service: str, page: str, name: str, **labels: str) -> float:
    with urllib.request.urlopen(native.url(service, page), timeout=30) as answer:
        return Page(answer.read().decode()).value(name, **labels)


def _loaded(native: Native, name: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A run of Locust as a service has it, with this machine's addresses."""
    service = SERVICES[name]
    defaults = {
        key: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for key, value in service["environment"].items() if value
    }
    told = {key: native.here(name, value) for key, value in defaults.items()}
    words = native.words(name, [sys.executable, "-m", "locust", *service["command"]])
    return subprocess.run(
        words,
        cwd=native.files(name),
        env={**os.environ, **told, **more},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.long
def test_the_simulator_and_locust_load_the_server(native: Native) -> None:
    """The simulated deployments are on the server's page; Locust's calls to their ingress, which is published, do not
    fail."""
    assert SERVICES["simulator"]["command"][-2:] == ["--ingress_host", "0.0.0.0"]
    predictions = "model_predictions_total"
    until(
        lambda: _page_value(native, "server", "/v1/metrics", predictions, deployment_name="digits") > 0,
        60,
        "the simulator sent nothing",
    )
    done = _loaded(native, "locust-ingress", LOCUST_RUN_TIME="2s")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_locust_loads_the_model_server(native: Native) -> None:
    """With the settings of locust.conf but for a short time, no call fails, and predictions meet their truths."""
    assert SERVICES["locust"]["profiles"] == ["load"]
    done = _loaded(native, "locust", LOCUST_USERS="10", LOCUST_RUN_TIME="4s")
    assert done.returncode == 0, done.stderr
    iris = {"deployment_namespace": "examples", "deployment_name": "iris"}
    asked = _page_value(
        native, "model-server", "/metrics", "starlette_requests_total", path="/predict", status_code="200"
    )
    assert asked >= 10
    until(
        lambda: _page_value(native, "server", "/v1/metrics", "model_predictions_total", **iris) >= asked,
        30,
        "the model server told too few predictions",
    )
    until(
        lambda: (
            _page_value(native, "server", "/v1/metrics", "model_labels_total", status="matched", **iris) > asked / 2
        ),
        30,
        "predictions did not meet their truths",
    )
    accuracy = _page_value(native, "server", "/v1/metrics", "model_accuracy_ratio", window="1h", **iris)
    assert accuracy > 0.8


def test_locust_conf_is_a_hundred_users_for_five_minutes() -> None:
    """Locust itself reads it so."""
    program = (
        "from locust.argument_parser import get_parser\n"
        "o = get_parser(default_config_files=['locust.conf']).parse_args([])\n"
        "print(o.num_users, o.run_time, o.headless, o.host)"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LOCUST_")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=MODEL_SERVER, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["100", "300", "True", "http://127.0.0.1:8000"]


def test_the_client_needs_no_locust(native: Native) -> None:
    """client.py runs on a bare Python, reports its calls, and ends with status 1 when a call failed."""
    words = [sys.executable, "-I", "-S", "-c", "import runpy, sys; sys.path.insert(0, sys.argv[1]); "]
    words[-1] += "sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    words += [str(MODEL_SERVER), str(MODEL_SERVER / "client.py"), "--count", "20", "--rate", "100", "--seed", "1"]
    words += ["--feedback_url", native.url("server", "")]
    reached = [*words, "--url", native.url("model-server", "")]
    done = subprocess.run(reached, capture_output=True, text=True, timeout=60, check=False)
    assert re.fullmatch(r"20 calls, (1[5-9]|20) right, 0 failed\n", done.stdout), done.stderr
    assert done.returncode == 0
    missed = subprocess.run(
        [*words, "--url", f"http://127.0.0.1:{free_port()}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (missed.returncode, missed.stdout) == (1, "20 calls, 0 right, 20 failed\n")


def test_the_model_server_refuses_what_is_no_flower(native: Native) -> None:
    """Rows of another width, too many of them and what is not finite are answered 422."""
    for rows in ([], [[1.0, 2.0]], [[1.0] * 4] * 1001, [[1.0, 2.0, 3.0, None]]):
        status, _ = _posted(native.url("model-server", "/predict"), json.dumps({"rows": rows}).encode())
        assert status == 422


@pytest.mark.parametrize("name", ["model-server", "node"])
def test_every_panel_finds_data(native: Native, name: str) -> None:
    """Each query of the dashboards of compose has an answer of the Prometheus that scrapes these services."""
    board = json.loads((GRAFANA / f"dashboards/{name}.json").read_text())
    asked = {target["expr"] for panel in board["panels"] for target in panel.get("targets", ())}
    assert len(asked) > 5
    waiting = {expression.replace("$__rate_interval", "20s") for expression in asked}

    def answered() -> bool:
        _posted(native.url("model-server", "/predict"), b'{"rows": [[5.1, 3.5, 1.4, 0.2]]}')  # a rate needs two
        waiting.difference_update([query for query in waiting if _found(native, query)])
        return not waiting

    until(answered, 60, "a query of a panel has no data")
    assert not waiting


def test_the_dashboard_of_the_platform_finds_data(native: Native) -> None:
    """Each query of *Prediction analytics* has an answer: Prometheus scrapes the executors of the simulated cluster."""
    prometheus, board = Prometheus(native.url("prometheus", "")), BOARDS["platform"]
    waiting = {query for _, query in expressions(board)}
    assert len(waiting) > 10

    def answered() -> bool:
        if not prometheus.values("seldon_api_executor_client_requests_seconds_count"):
            return False
        ways = choices(prometheus, board)
        waiting.difference_update([one for one in waiting if any(prometheus.values(filled(one, way)) for way in ways)])
        return not waiting

    until(answered, 60, "a query of the dashboard has no data")


def _found(native: Native, query: str) -> bool:
    where = f"/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    return any(float(one["value"][1]) >= 0 for one in _get(native.url("prometheus", where))["data"]["result"])


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
        with urllib.request.urlopen(urllib.request.Request(url, body, JSON_TYPE), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
