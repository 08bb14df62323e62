"""The image, without a container engine: its Dockerfile's steps are run in a clean directory, and what they made is
started."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distributions
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from metrics_server import __version__
from tests.support.live_server import Page, feedback, send
from tests.support.running import ARGUMENTS, ROOT, free_port, peer

IMAGE = ROOT / "deploy/image"
HEALTHCHECK = IMAGE / "healthcheck.py"
SERVER_EXTRAS = ("web", "protobuf", "kafka", "postgres")
MAX_MEGABYTES = 250
ANCESTORS_USER = 8888  # of the walkthrough's manifest


class Step(NamedTuple):
    """An instruction of the Dockerfile."""

    stage: str
    name: str
    text: str


def _steps() -> list[Step]:
    """The instructions with the stage that each is in, continuation lines joined."""
    lines = [line for line in (IMAGE / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found, stage = [], ""
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            stage = text.split(" AS ")[1]
        if name:
            found.append(Step(stage, name, text))
    return found


STEPS = _steps()


def _texts(name: str, stage: str = "runtime") -> list[str]:
    return [step.text for step in STEPS if (step.stage, step.name) == (stage, name)]


class Build:
    """The stages up to the server's, one after the other in one directory that stands for the root of the file
    system."""

    def __init__(self, root: Path) -> None:
        self.root, self.context, self.base = root, root / "context", root / "base"
        self.directory = root
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "METRICS_SERVER_"))
        }
        self.environment["PATH"] = f"{self.base}/bin:/usr/bin:/bin"
        (root / "var/lib").mkdir(parents=True)
        _copy_context(self.context)
        subprocess.run(
            [sys.executable, "-m", "venv", self.base], check=True
        )  # as the base image, which has python and pip

    def run(self) -> None:
        """All steps of the stages that the last one needs."""
        for step in STEPS:
            if step.stage in ("dependencies", "build", "runtime", "server"):
                ACTIONS[step.name](self, self.here(step.text))

    def here(self, text: str) -> str:
        """With absolute paths inside this directory."""
        return re.sub(r"/(?=(opt|var|build)\b)", f"{self.root}/", text)

    def _workdir(self, text: str) -> None:
        self.directory = Path(text)
        self.directory.mkdir(exist_ok=True)

    def _env(self, text: str) -> None:
        for name, _, value in (word.partition("=") for word in shlex.split(text)):
            if name != "PIP_NO_CACHE_DIR":  # what a layer must not keep is welcome here
                self.environment[name] = value.replace("$PATH", self.environment["PATH"])

    def _copy(self, text: str) -> None:
        if not text.startswith("--from="):  # that is there already
            *sources, target = text.split()
            for source in sources:
                command = ["cp", "-rT" if (self.context / source).is_dir() else "-r", self.context / source, target]
                (self.directory / target).parent.mkdir(parents=True, exist_ok=True)
                if target.endswith("/"):
                    (self.directory / target).mkdir(parents=True, exist_ok=True)
                subprocess.run(command, cwd=self.directory, check=True)

    def _run(self, text: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", text], cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


# The others say how a container is run.
ACTIONS = dict.fromkeys(("ARG", "FROM", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"), lambda *_: None) | {
    "WORKDIR": Build._workdir,
    "ENV": Build._env,
    "COPY": Build._copy,
    "RUN": Build._run,
}


def _copy_context(target: Path) -> None:
    """The files that the ignore file lets through."""
    patterns = [
        line
        for line in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    allowed = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    assert patterns == ["*", *(f"!{pattern}" for pattern in allowed), "**/__pycache__"], (
        "this reads an ignore file of that form"
    )
    for path in (path for pattern in allowed for path in ROOT.glob(pattern)):
        (target / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target / path.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, target / path.relative_to(ROOT))


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """What the steps make; not below pytest's own directory, which other users cannot enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        made = Build(Path(name))
        made.run()
        yield made


def _as_user(user: int) -> list[str]:
    """Becomes another user of group 0. It may still read what it has no right to: Python itself may lie in a home
    directory."""
    if os.geteuid():
        return []
    read = "-all,+dac_read_search"
    return [
        peer("setpriv"),
        f"--reuid={user}",
        "--regid=0",
        "--clear-groups",
        "--no-new-privs",
        f"--inh-caps={read}",
        f"--ambient-caps={read}",
    ]


def _ask(url: str) -> int:
    """The status of the health check."""
    return subprocess.run([sys.executable, HEALTHCHECK, url], timeout=20, check=False).returncode


def _await_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while _ask(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()


def _html(port: int) -> bytes:
    """The page for browsers, which the extra web draws."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


@pytest.mark.long
def test_the_ancestors_arguments_start_the_image_as_any_user(build: Build) -> None:
    """Entry point and the walkthrough's arguments run as user 8888, count feedback, keep the state in the given place,
    and end with 0."""
    port, log = free_port(), build.root / "server.log"
    entry = json.loads(_texts("ENTRYPOINT")[0])
    words = [*_as_user(ANCESTORS_USER), *entry, *ARGUMENTS, "--http_port", str(port), "MetricsServer"]
    environment = build.environment | {"METRICS_SERVER_HOST": "127.0.0.1", "HOME": "/"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=build.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    check = json.loads(_texts("HEALTHCHECK")[0].partition(" CMD ")[2])[-1].replace("8080", str(port))
    try:
        _await_healthy(check, process, log)
        assert send(port, feedback("1", [0, 0, 1], [0.1, 0.2, 0.7])).status == 200
        page = Page(send(port, path="/v1/metrics").body.decode())
        assert page.value("seldon_metric_true_positive_total", **{"class": "CLASS_2"}) == 1.0
        assert b"<html" in _html(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    state = build.root / "var/lib/feedback-metrics-server/state.db"
    assert f"state in sqlite:///{state}" in log.read_text()
    if not os.geteuid():
        assert state.stat().st_uid == ANCESTORS_USER
    assert _ask(check) == 1, "a server that ended is not healthy"


@pytest.mark.long
def test_the_image_knows_its_version(build: Build) -> None:
    """The package, the label and the tags in the files that name the image say one version."""
    done = subprocess.run(
        ["metrics-server", "--version"], env=build.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"metrics-server {__version__}"
    assert f"VERSION={__version__}" in _texts("ARG")
    for path in (IMAGE / "Dockerfile", ROOT / "deploy/compose/compose.yaml"):
        assert set(re.findall(r"feedback-metrics-server(?:-demo)?:(\d[\w.]*)", path.read_text())) == {__version__}, path


@pytest.mark.long
def test_nothing_is_missing_and_nothing_more_is_there(build: Build) -> None:
    """The environment holds the locked packages and this one, they fit each other, and there is no pip."""
    packages = next(build.root.glob("opt/venv/lib/python*/site-packages"))
    found = {canonicalize_name(one.name): one.version for one in distributions(path=[str(packages)])}
    assert found == {**_pins("requirements.txt"), "feedback-metrics-server": __version__}
    subprocess.run(
        ["pip", "--python", f"{build.root}/opt/venv/bin/python", "check"],
        env=build.environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    modules = "import bokeh, confluent_kafka, google.protobuf, cm_models"
    subprocess.run([f"{build.root}/opt/venv/bin/python", "-c", modules], cwd=build.root, check=True)


@pytest.mark.long
def test_the_image_is_small_and_belongs_to_root(build: Build) -> None:
    """What the image adds to its base has a bound, everybody can read it, and only the state's directory is open to
    group 0."""
    files = [path for path in (build.root / "opt").rglob("*") if not path.is_symlink()]
    size = sum(path.stat().st_size for path in files if path.is_file()) / 2**20
    print(f"virtual environment: {size:.0f} MB")
    assert size < MAX_MEGABYTES
    for path in files:
        assert path.stat().st_mode & 0o022 == 0, path
        assert path.stat().st_mode & 0o004, path
    assert build.directory.stat().st_mode & 0o777 == 0o770
    assert build.directory.stat().st_gid == build.root.stat().st_gid


def test_the_image_runs_hardened() -> None:
    """A user by number, which is not root, in group 0; words instead of a shell, so that the server gets SIGTERM; no
    moving base."""
    assert re.fullmatch(r"[1-9]\d*:0", _texts("USER")[0])
    for name in ("ENTRYPOINT", "HEALTHCHECK"):
        assert json.loads(_texts(name)[0].rpartition("CMD ")[2])
    (base,) = [step.text for step in STEPS if (step.stage, step.name) == ("", "ARG")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-trixie@sha256:[0-9a-f]{64}", base)
    assert STEPS[-2:] == [
        Step("server", "FROM", "runtime AS server"),
        Step("server", "COPY", "--from=build /opt/venv /opt/venv"),
    ], "what is built without a target is the server"


def _pins(*names: str) -> dict[str, str]:
    """Package → version of locks."""
    text = "".join((IMAGE / name).read_text() for name in names)
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE)
    }


def _wanted(extras: tuple[str, ...]) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(text)
        for text in [
            *project["dependencies"],
            *(one for extra in extras for one in project["optional-dependencies"][extra]),
        ]
    ]


@pytest.mark.parametrize(
    ("locks", "extras"),
    [
        (("requirements.txt",), SERVER_EXTRAS),
        (("requirements.txt", "requirements-demo.txt"), (*SERVER_EXTRAS, "demo")),
    ],
)
def test_the_locks_satisfy_the_project(locks: tuple[str, ...], extras: tuple[str, ...]) -> None:
    """Each requirement of the package and of the extras in the image has a pin that it allows."""
    pins = _pins(*locks)
    for wanted in _wanted(extras):
        assert pins.get(canonicalize_name(wanted.name)) in wanted.specifier, f"{wanted}: run deploy/image/lock.sh"


def test_what_builds_the_package_is_locked() -> None:
    """The build takes no package that is not pinned."""
    system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    pins = _pins("requirements-build.txt")
    assert {canonicalize_name(Requirement(text).name) for text in system} <= set(pins)
    assert all(pins[canonicalize_name(Requirement(text).name)] in Requirement(text).specifier for text in system)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-demo.txt", "requirements-build.txt"])
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    """A lock says what a package is, and not where it comes from."""
    entries = re.split(r"\n(?=\S)", (IMAGE / name).read_text().strip())
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[\w.-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry.strip()) for entry in pins)


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


def test_the_health_check_fails_on_anything_but_200(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and no listener are unhealthy, and a proxy in the environment is not asked."""
    with HTTPServer(("127.0.0.1", 0), _Refusing) as refusing:
        Thread(target=refusing.serve_forever, daemon=True).start()
        assert _ask(f"http://127.0.0.1:{refusing.server_port}/healthz") == 1
        refusing.shutdown()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert _ask(f"http://127.0.0.1:{free_port()}/healthz") == 1
