"""A real server process for tests, and real peers: skipped where they are missing on a laptop, failed in CI."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.exposed import samples_of
from tests.support.forked_server import ForkedServer

PROGRAM = (sys.executable, "-m", "metrics_server")
ROOT = Path(__file__).resolve().parent.parent.parent
FEEDBACK = "io.seldon.serving.feedback"
RESPONSE = "io.seldon.serving.inference.response"
REQUEST = "io.seldon.serving.inference.request"

# The command line of the walkthrough that users of the ancestor have, without its port and its last word.
ARGUMENTS = [
    "--model_name",
    "multiclassserver",
    "--protocol",
    "seldonfeedback.http",
    "--storage_uri",
    "adserver.cm_models.multiclass_one_hot.MulticlassOneHot",
    "--reply_url",
    "http://message-dumper.default",
    "--event_type",
    "io.seldon.serving.feedback.metrics",
    "--event_source",
    "io.seldon.serving.feedback",
]


# Below those that the kernel gives to outgoing connections and to port 0 (ip_local_port_range), so that nothing of
# these takes a port between our look and the bind; and beyond those to which browsers do not go. Each worker of
# pytest-xdist has ports of its own, and starts anywhere among them, for there may be another session.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_OWN_PORTS = range(20_000, 32_768)[_WORKER % 16 :: 16]
_ports = itertools.islice(itertools.cycle(_OWN_PORTS), random.SystemRandom().randrange(len(_OWN_PORTS)), None)


def free_port() -> int:
    """A loopback port on which nothing listens, and which no other worker of this session is given."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def peer(name: str) -> str:
    """The path of a real program; a laptop without it skips the test, CI must have it."""
    if path := shutil.which(name):
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is missing in CI")
    pytest.skip(f"{name} is not installed")


def ce(kind: str, event_id: str, request_id: str = "", **extensions: str) -> dict[str, str]:
    """Headers of an event in binary mode, as the Seldon executor sends them."""
    headers = {
        "Ce-Specversion": "1.0",
        "Ce-Id": event_id,
        "Ce-Type": kind,
        "Ce-Source": "http://:8000/",
        "Content-Type": "application/json",
        "Ce-Namespace": "shop",
        "Ce-Inferenceservicename": "wine",
        "Ce-Endpoint": "main",
        "Ce-Modelid": "classifier",
    }
    if request_id:
        headers["Ce-Requestid"] = request_id
    return headers | {f"Ce-{name.capitalize()}": value for name, value in extensions.items()}


class Answer:
    """Status, headers and body of an answer, errors too."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["error"]["reason"])


class PortTaken(AssertionError):
    """Somebody else has come to listen where the server was to."""


ServerProcess = subprocess.Popen[bytes] | ForkedServer


def launch(log: Path, *options: str, port: int | None = None, **how: Any) -> tuple[ServerProcess, int]:
    """A ready `python -m metrics_server` on this port or a free one, in the directory of its log, untouched by this
    process's environment. It is forked, but where a program or a wrapper is named."""
    if port is not None:
        return _launch(log, port, *options, **how)
    while True:
        with suppress(PortTaken):
            return _launch(log, free_port(), *options, **how)


def _launch(
    log: Path,
    port: int,
    *options: str,
    wrapper: Sequence[str] = (),
    program: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    drop_in: bool = False,
    scheme: str = "http",
) -> tuple[ServerProcess, int]:
    words = ["--http_port", str(port), *options, *(["MetricsServer"] if drop_in else [])]
    clean = {
        name: value for name, value in os.environ.items() if not re.match("METRICS_SERVER_|PORT$|SELDON_|PREDICT", name)
    }
    command = [*wrapper, *(program or PROGRAM)] if wrapper or program else []
    process = _start(command, words, log, {**clean, **(environment or {})})
    try:
        _await_ready(process, f"{scheme}://127.0.0.1:{port}", log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, port


def _start(command: Sequence[str], words: Sequence[str], log: Path, environment: Mapping[str, str]) -> ServerProcess:
    log.touch()
    if not command:
        return ForkedServer(words, log, environment)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=environment,
        )


def _await_ready(process: ServerProcess, url: str, log: Path) -> None:
    unverified = ssl._create_unverified_context()  # a test that cares looks itself
    deadline = time.monotonic() + 60
    while True:
        if process.poll() is not None:
            said = log.read_text()[-2000:]
            kind = PortTaken if "address already in use" in said.lower() else AssertionError
            raise kind(f"the server ended with {process.returncode}:\n{said}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5, context=unverified) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
        assert time.monotonic() < deadline, f"the server did not get ready:\n{log.read_text()[-2000:]}"


class RunningServer:
    """A server process with its log in a file, spoken to over plain HTTP."""

    def __init__(self, directory: Path, *options: str, **how: Any) -> None:
        self.log = directory / f"server-{time.monotonic_ns()}.log"
        self.process, self.port = launch(self.log, *options, **how)
        self.url = f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, body: Any, headers: Mapping[str, str] | None = None, path: str = "/") -> Answer:
        return self.request("POST", path, body, headers)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of the page."""
        text = self.get("/v1/metrics").body.decode()
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples_of(text)}

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with this name and these labels; None if there is none."""
        found = [v for (n, have), v in self.samples().items() if n == name and labels.items() <= dict(have).items()]
        return sum(found) if found else None

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(25)
