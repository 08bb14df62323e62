"""Peers: what a user would pick instead to take feedback, each in an environment of its own, under the same load.

They promise different things, so what each keeps is measured beside its rate: of what was answered, what is still there
after SIGKILL and a restart; and whether the same feedback, sent twice, counts twice.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import environments, page, process, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.process import Process, Program
from benchmarks.progress import progress
from benchmarks.wrk import Requests

CONNECTIONS = 32
WARM_UP_SECONDS = 2
START_SECONDS = 120.0  # theirs, on a busy machine
INSTALL_SECONDS = 900.0  # hundreds of megabytes of packages
RUN_APART = 1 << 32  # numbers of requests between two runs of wrk
THINGS = 20  # traces, spans or groups that feedback is about
SETTLE_SECONDS = 20.0


@dataclass(frozen=True)
class Peer:
    """A server, the feedback that it takes, and what is known of its promises.

    Attributes:
        promise: what its documentation says of an answer, and of the same feedback twice.
        program: how it is started, of a port and a directory of its own.
        prepare: makes what feedback is about.
        counted: how much feedback it shows, of what it serves and its directory; None when it keeps nothing.
        is_replaced: feedback about a thing takes the place of what was there.
    """

    name: str
    promise: str
    requests: Requests
    program: Callable[[int, Path], Program]
    prepare: Callable[[Process], None] = lambda _: None
    counted: Callable[[Process, Path], int] | None = None
    is_replaced: bool = False

    @contextmanager
    def serve(self, directory: Path) -> Iterator[Process]:
        """Starts it on what the directory holds."""
        port = process.free_port()
        with process.running(self.program(port, directory), port, directory) as server:
            yield server


@dataclass
class Standing:
    """What was measured of a peer; rates and latencies have a value for each round.

    Attributes:
        kept: feedback shown after SIGKILL and a restart, and what was shown before.
        twice: how often the same feedback counts that is sent twice.
        missing: why it was not measured.
    """

    peer: Peer
    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    kept: tuple[int, int] | None = None
    twice: int | None = None
    missing: str = ""

    @property
    def rate(self) -> float:
        return median(self.rates)


def standings(rounds: int, seconds: int, directory: Path) -> list[Standing]:
    """Measures every peer once a round, every other round in the opposite order. One that cannot be had is left out."""
    measured = [Standing(peer) for peer in PEERS]
    for number in range(rounds):
        for standing in measured if number % 2 == 0 else reversed(measured):
            if standing.missing:
                continue
            progress(f"round {number + 1} of {rounds}: {standing.peer.name}")
            try:
                _measure(standing, seconds, directory / uuid.uuid4().hex)
            except environments.NotInstallable as problem:
                standing.missing = str(problem)
    progress("")
    return measured


def _measure(standing: Standing, seconds: int, home: Path) -> None:
    home.mkdir()
    with standing.peer.serve(home) as server:
        standing.peer.prepare(server)
        asked = _ask_twice(standing, server, home)
        loads = [
            wrk.run_requests(server.port, standing.peer.requests, number * RUN_APART, CONNECTIONS, length)
            for number, length in enumerate((WARM_UP_SECONDS, seconds), 1)
        ]
        shown = _check(standing.peer, server, home, asked + sum(load.responses for load in loads))
        if not standing.rates:
            server.kill()
    if shown is not None and not standing.rates:
        with standing.peer.serve(home) as server:
            standing.kept = _settled(standing.peer, server, home), shown
    standing.rates.append(loads[-1].rate)
    standing.p99.append(loads[-1].p99)
    shutil.rmtree(home)


def _ask_twice(standing: Standing, server: Process, home: Path) -> int:
    """Sends one and the same feedback twice; returns how often it counts."""
    for _ in range(2):
        _send(server, standing.peer.requests)
    if standing.peer.counted:
        standing.twice = _settled(standing.peer, server, home)
    return standing.twice or 0


def _check(peer: Peer, server: Process, home: Path, answered: int) -> int | None:
    """Returns what is shown, when it is what was answered 2xx, and at most what was in flight when wrk left."""
    if peer.counted is None:
        return None
    least = min(answered, peer.requests.things) if peer.is_replaced else answered
    shown = _settled(peer, server, home)
    if not least <= shown <= answered + 2 * CONNECTIONS:
        raise BenchmarkError(f"{peer.name}: {answered} were answered 2xx, and it shows {shown}")
    return shown


def _settled(peer: Peer, server: Process, home: Path) -> int:
    """Waits until the count stands still."""
    assert peer.counted
    deadline, before = time.monotonic() + SETTLE_SECONDS, -1
    while (now := peer.counted(server, home)) != before and time.monotonic() < deadline:
        before = now
        time.sleep(1)
    return now


def _send(server: Process, form: Requests) -> None:
    """Sends the request with the number 0, and wants an answer of 2xx."""
    path, body = (text.replace("@NNNNNNNNNN@", "0" * 12).replace("@TTTT@", "0" * 6) for text in (form.path, form.body))
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request(form.method, path, body, {"Content-Type": form.content_type})
        response = connection.getresponse()
        said = response.read()[:300]
    if response.status // 100 != 2:
        raise BenchmarkError(f"{form.method} {path} was answered {response.status}: {said!r}")


def _post(server: Process, path: str, body: object) -> None:
    _send(server, Requests("POST", path, json.dumps(body)))


def _rows_of(table: str, file: str) -> Callable[[Process, Path], int]:
    """Counts the rows of a table of a server that keeps its state in SQLite."""

    def count(_: Process, home: Path) -> int:
        with closing(sqlite3.connect(f"file:{home / file}?mode=ro", uri=True, timeout=30)) as database:
            (rows,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(rows)

    return count


# This server, and the yardstick.

_EVENT = {
    "specversion": "1.0",
    "id": "feedback-@NNNNNNNNNN@",
    "type": "io.seldon.serving.feedback",
    "source": "http://:8000/",
    "requestid": "request-@NNNNNNNNNN@",
    "modelid": "classifier",
    "inferenceservicename": "wine-@TTTT@",
    "namespace": "shop",
    "endpoint": "main",
    "datacontenttype": "application/json",
    "data": {"response": {"data": {"ndarray": [[0.1, 0.2, 0.7]]}}, "truth": {"data": {"ndarray": [[0, 0, 1]]}}},
}


def _metrics_server(port: int, home: Path) -> Program:
    return process.metrics_server_program(port, f"sqlite:///{home / 'state.db'}")


def _pairs(server: Process, _: Path) -> int:
    return int(page.total(server.get("/v1/metrics"), "model_labels_total", status="matched"))


# MLflow, https://mlflow.org: feedback is an assessment of a trace. Apache-2.0.

_TRACES = "/api/3.0/mlflow/traces"
_TRACE = "tr-00000000000000000000000000"  # and six digits
_NOW = "2026-01-01T12:00:00Z"


def _mlflow(port: int, home: Path) -> Program:
    programs = environments.programs_of("mlflow", seconds=INSTALL_SECONDS)
    words = (
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--backend-store-uri",
        f"sqlite:///{home / 'mlflow.db'}",
    )
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    return Program((str(programs / "mlflow"), *words), "/health", quiet, START_SECONDS)


def _make_traces(server: Process) -> None:
    where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    for thing in range(THINGS):
        about = {"trace_id": f"{_TRACE}{thing:06x}", "trace_location": where, "request_time": _NOW, "state": "OK"}
        _post(server, _TRACES, {"trace": {"trace_info": about}})


_ASSESSMENT = {
    "assessment_name": "correct",
    "trace_id": f"{_TRACE}@TTTT@",
    "source": {"source_type": "HUMAN", "source_id": "@NNNNNNNNNN@"},
    "create_time": _NOW,
    "last_update_time": _NOW,
    "feedback": {"value": True},
}

# Phoenix, https://phoenix.arize.com: feedback is an annotation of a span. Elastic License 2.0.

_SPAN = "0000000000"  # and six digits


def _phoenix(port: int, home: Path) -> Program:
    programs = environments.programs_of("arize-phoenix", seconds=INSTALL_SECONDS)
    settings = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(process.free_port()),
        "PHOENIX_WORKING_DIR": str(home),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    return Program((str(programs / "phoenix"), "serve"), "/healthz", settings, START_SECONDS)


def _make_spans(server: Process) -> None:
    spans = [
        {
            "name": "predict",
            "context": {"trace_id": f"{thing + 1:032x}", "span_id": f"{_SPAN}{thing:06x}"},
            "span_kind": "CHAIN",
            "start_time": _NOW,
            "end_time": _NOW,
            "status_code": "OK",
        }
        for thing in range(THINGS)
    ]
    _post(server, "/v1/projects/default/spans", {"data": spans})
    deadline = time.monotonic() + SETTLE_SECONDS  # it takes them in later
    while len(json.loads(server.get("/v1/projects/default/spans?limit=100"))["data"]) < THINGS:
        if time.monotonic() > deadline:
            raise BenchmarkError("phoenix did not take its spans")
        time.sleep(0.2)


_ANNOTATION = {
    "name": "correct",
    "annotator_kind": "HUMAN",
    "span_id": f"{_SPAN}@TTTT@",
    "identifier": "@NNNNNNNNNN@",
    "result": {"label": "right", "score": 1},
}

# Pushgateway of Prometheus: feedback is counted by its client, which pushes the count. Apache-2.0.


def _pushgateway(port: int, home: Path) -> Program:
    found = shutil.which("prometheus-pushgateway")
    if found is None:
        raise environments.NotInstallable("Pushgateway is missing; install the Debian package prometheus-pushgateway")
    words = (f"--web.listen-address=127.0.0.1:{port}", f"--persistence.file={home / 'pushed'}")
    return Program((found, *words), "/-/ready")


def _groups(server: Process, _: Path) -> int:
    return sum(line.startswith("push_time_seconds{") for line in server.get("/metrics").splitlines())


PEERS = (
    Peer(
        "metrics-server",
        "paired, deduplicated and on disk (fdatasync) before the answer; metrics are live",
        Requests("POST", "/", json.dumps(_EVENT), "application/cloudevents+json", THINGS),
        _metrics_server,
        counted=_pairs,
    ),
    Peer(
        "tornado",
        "do-nothing tornado.web.RequestHandler: keeps nothing",
        Requests("POST", "/", json.dumps(_EVENT), "application/cloudevents+json", THINGS),
        process.baseline_program,
    ),
    Peer(
        "pushgateway",
        "the last count of each group, in memory, written every 5 minutes; clients count",
        Requests("PUT", "/metrics/job/shop/instance/@TTTT@", "correct_total 1\n", "text/plain", THINGS),
        _pushgateway,
        counted=_groups,
        is_replaced=True,
    ),
    Peer(
        "mlflow",
        "a row of SQLite before the answer; ids are the server's, so what is sent again counts again; no metrics",
        Requests(
            "POST", f"{_TRACES}/{_TRACE}@TTTT@/assessments", json.dumps({"assessment": _ASSESSMENT}), things=THINGS
        ),
        _mlflow,
        _make_traces,
        _rows_of("assessments", "mlflow.db"),
    ),
    Peer(
        "phoenix",
        "a row of SQLite before the answer (sync=true), updated by its identifier; no metrics",
        Requests("POST", "/v1/span_annotations?sync=true", json.dumps({"data": [_ANNOTATION]}), things=THINGS),
        _phoenix,
        _make_spans,
        _rows_of("span_annotations", "phoenix.db"),
    ),
)
