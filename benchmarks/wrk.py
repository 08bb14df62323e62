"""wrk, the load generator, and its results."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

TIMEOUT_SECONDS = 10
_MARK = "RESULT "


@dataclass(frozen=True)
class Shape:
    """The shape of a load: the series and classes that the POSTs rotate through, and the events that a POST carries."""

    series: int = 1
    classes: int = 0  # 0: rows of three probabilities
    batch: int = 1
    lag: int = 0  # POSTs between a prediction and its truth; 0: both in one event
    connections: int = 64


@dataclass(frozen=True)
class Load:
    """The results of wrk: POSTs answered 200, the seconds that they took, and latencies in milliseconds."""

    responses: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.responses / self.seconds


def check_installed() -> None:
    """Raises an error that says what to install when wrk is missing."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is missing; install the Debian package wrk (apt-get install wrk)")


@dataclass(frozen=True)
class Requests:
    """Requests of one form, for servers of another API. In path and body `@NNNNNNNNNN@` is the number of the request,
    and `@TTTT@` that of the thing that it is about, one of so many.
    """

    method: str
    path: str
    body: str
    content_type: str = "application/json"
    things: int = 1


def run(port: int, shape: Shape, seconds: int) -> Load:
    """Posts events for so long. Ids never repeat, within a run or between runs.

    Raises:
        BenchmarkError: a response was not 200, or a connection failed.
    """
    prefix = str(uuid.uuid4())[:18]
    arguments = (prefix, *map(str, (shape.series, shape.classes, shape.batch, shape.lag)))
    return _run(port, "feedback.lua", arguments, shape.connections, seconds)


def run_requests(port: int, requests: Requests, first: int, connections: int, seconds: int) -> Load:
    """Sends requests of one form for so long, numbered from the first on; raises as `run` does."""
    form = (requests.method, requests.path, requests.content_type, requests.body)
    arguments = (*form, str(requests.things), str(first))
    return _run(port, "requests.lua", arguments, connections, seconds)


def _run(port: int, script: str, arguments: Sequence[str], connections: int, seconds: int) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", f"{TIMEOUT_SECONDS}s"]
    command += ["-s", str(Path(__file__).with_name(script)), f"http://127.0.0.1:{port}/", "--", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), None)
    if done.returncode or line is None:
        raise BenchmarkError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    responses, failed, micros, p50, p99 = map(int, line.removeprefix(_MARK).split())
    if failed:
        raise BenchmarkError(f"{failed} requests failed or were not answered 2xx, {responses} were answered")
    return Load(responses, micros / 1e6, p50 / 1000, p99 / 1000)
