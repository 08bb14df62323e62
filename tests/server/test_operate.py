"""What an operator sees: exit codes, messages, TLS, replies that arrive, series that leave."""

from __future__ import annotations

import http.server
import queue
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event

from metrics_server.errors import Unavailable
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.window import DAY
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.observation import digest_of, row_key
from metrics_server.pairing.usage import RECORDS, UsageLimits
from metrics_server.pairing.writer import Submission, Writer
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, Write
from metrics_server.telemetry import Telemetry
from tests.conftest import Serve
from tests.support.pairing_bench import KEEPING, MAIN, NOW, NOWHERE, Bench, Sent
from tests.support.running import FEEDBACK, ce, free_port, peer

PAIR = {"response": {"data": {"ndarray": [1]}}, "truth": {"data": {"ndarray": [1]}}}


def _run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metrics_server", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_help_and_version_say_what_there_is(tmp_path: Path) -> None:
    """--help is the reference of all options; --version names the version."""
    shown = _run(tmp_path, "--help")
    assert shown.returncode == 0
    assert "--storage_uri" in shown.stdout
    assert _run(tmp_path, "--version").stdout.startswith("metrics-server 0.")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--no_such_option"], 2, "unrecognized arguments: --no_such_option"),
        (["--store", "mysql://x"], 1, "want one of memory://, sqlite://"),
        (["--store", "sqlite://x"], 1, "want sqlite:///relative/path"),
        (["--store", "sqlite:////proc/none/state.db"], 1, "cannot write beside /proc/none/state.db"),
        (["--store", "memory://", "--token_file", "none"], 1, "--token_file none: No such file"),
        (["--store", "memory://", "--token_file", "/dev/null"], 1, "--token_file /dev/null is empty"),
        (["--store", "memory://", "--tls_cert", "a", "--tls_key", "b"], 1, "--tls_cert a --tls_key b"),
        (["--store", "memory://", "--host", "203.0.113.1"], 1, "--host 203.0.113.1"),
        (["--store", "memory://", "--elasticsearch_uri", "ftp://h"], 1, "--elasticsearch_uri: want"),
        (
            ["--store", "memory://", "--elasticsearch_uri", "h", "--elasticsearch_index", "{x}"],
            1,
            "--elasticsearch_index {x}",
        ),
        (
            ["--store", "memory://", "--elasticsearch_uri", "h", "--elasticsearch_ca", "none"],
            1,
            "--elasticsearch_ca none: ",
        ),
    ],
)
def test_a_start_that_cannot_be_is_one_clear_line(tmp_path: Path, words: list[str], status: int, message: str) -> None:
    """The exit status tells wrong usage (2) from a start that failed (1); there is no traceback."""
    done = _run(tmp_path, "--http_port", str(free_port()), *words)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """Two servers cannot have one port, and the second says so and ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run(tmp_path, "--store", "memory://", "--http_port", port)
    assert done.returncode == 1
    assert f"--http_port {port}" in done.stderr


def test_https_is_served_with_the_operators_certificate(serve: Serve, tmp_path: Path) -> None:
    """With --tls_cert and --tls_key events and scrapes go over TLS."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([peer("openssl"), *words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = serve("--store", "memory://", "--tls_cert", str(certificate), "--tls_key", str(key), scheme="https")
    context = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(f"https://127.0.0.1:{server.port}/healthz", timeout=5, context=context) as answer:
        assert answer.read() == b"ok"


class _Sink(http.server.BaseHTTPRequestHandler):
    """Takes replies and answers with the status it was made for."""

    status = 200
    received: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *unused: Any) -> None:
        """Says nothing."""


@pytest.fixture
def sink() -> Iterator[tuple[type[_Sink], str]]:
    """A real receiver of replies."""
    handler = type("Sink", (_Sink,), {"received": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield handler, f"http://127.0.0.1:{receiver.server_address[1]}/"
        receiver.shutdown()
        thread.join()


def _await(server: Any, outcome: str, count: float) -> None:
    for _ in range(200):
        if server.value("metrics_server_replies_total", outcome=outcome) == count:
            return
        threading.Event().wait(0.05)
    raise AssertionError(server.get("/metrics").body.decode())


def test_replies_reach_the_reply_url_once_each(serve: Serve, sink: tuple[type[_Sink], str]) -> None:
    """Each accepted feedback is also sent to --reply_url as the event it was answered with; a repeat is not."""
    handler, url = sink
    server = serve("--store", "memory://", "--event_type", "reply", "--event_source", "/metrics", "--reply_url", url)
    answer = server.post(PAIR, ce(FEEDBACK, "1", "r 1"))
    server.post(PAIR, ce(FEEDBACK, "1", "r 1"))
    _await(server, "delivered", 1)
    ((headers, body),) = handler.received
    sent = from_binary_event(HTTPMessage(headers, body))
    assert sent.get_id() == answer.headers["ce-id"]
    assert sent.get_extension("requestid") == "r 1"


def test_replies_that_are_refused_or_fail_are_counted(serve: Serve, sink: tuple[type[_Sink], str]) -> None:
    """What --reply_url does not take is lost after a few tries, counted, and never the sender's trouble."""
    handler, url = sink
    options = ("--store", "memory://", "--event_type", "reply", "--event_source", "/metrics", "--reply_url")
    server = serve(*options, url)
    handler.status = 400
    assert server.post(PAIR, ce(FEEDBACK, "1", "r1")).status == 200
    _await(server, "refused", 1)
    handler.status = 503
    assert server.post(PAIR, ce(FEEDBACK, "2", "r2")).status == 200
    _await(server, "failed", 1)


def _upkeep(
    bench: Bench, totals: Totals, *, series_retention: int = 400 * DAY, limits: UsageLimits | None = None
) -> Maintenance:
    kept = {"history": KEEPING.history, "retention": KEEPING.retention, "series_retention": series_retention}
    return Maintenance(bench.store, bench.catalog, totals, Telemetry(), limits or UsageLimits(), **kept)


def test_a_series_that_is_idle_leaves_with_its_sums() -> None:
    """After --series_retention without events a series is gone from store and page; the next event starts it anew."""
    bench = Bench()
    bench.send(Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,)))
    totals = Totals({"1h": 3600})
    totals.rebuild(bench.store, NOW)
    upkeep = _upkeep(bench, totals, series_retention=30 * DAY)
    upkeep.step(NOW + 29 * DAY)
    assert [series.labels for series in bench.catalog.current()] == [MAIN]
    upkeep.step(NOW + 31 * DAY)
    assert bench.catalog.current() == []
    assert bench.store.series() == []
    assert bench.store.totals(0) == {}


def test_one_series_too_many_is_refused_and_leaves_no_trace() -> None:
    """An event that would make one more than --max_series is refused; its key is not burnt, and nothing has moved."""
    bench = Bench()
    bench.catalog = type(bench.catalog)(lambda labels: bench.scoring, bench.catalog._build, 1)
    one = Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,))
    other = one._replace(id="2", request="q", labels=Labels("lab", "iris", "main", "m"))
    first, second = bench.send(one, other)
    assert (first, second.reason.label) == ("accepted", "too_many_series")
    assert len(bench.catalog) == 1
    assert bench.send(other)[0].status == 422
    bench.catalog._max_series = 2
    assert bench.send(other) == ["accepted"]


def test_expired_halves_and_keys_are_forgotten() -> None:
    """After the retention a prediction is gone, and the numbers stay."""
    bench = Bench()
    bench.send(
        Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,)),
        Sent("feedback", "2", NOW, "", MAIN, ("", ""), (1,), (1,)),
    )
    totals = Totals({"1h": 3600})
    upkeep = _upkeep(bench, totals, series_retention=400 * DAY)
    before = bench.net()
    upkeep.step(NOW + DAY + 2)
    assert len(bench.store._records) == 1
    upkeep.step(NOW + 36 * DAY)
    assert not bench.store._records
    assert bench.net() == before


def test_a_record_that_cannot_be_read_holds_nothing_up() -> None:
    """It leaves when its time has come, like the others; upkeep goes on."""
    bench = Bench()
    bench.store.commit(Change({b"x" * 20: Write(0, b"\xc1", NOW - 9, RECORDS)}))
    bench.send(Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,)))
    totals = Totals({"1h": 3600})
    totals.rebuild(bench.store, NOW)
    _upkeep(bench, totals).step(NOW + 36 * DAY)
    assert not bench.store._records
    assert totals.series_totals(bench.catalog.current()[0].id).windows["1h"] == {}


def test_a_group_larger_than_a_sweep_does_not_outgrow_the_limit() -> None:
    """However many rows an event brings, what is kept is back at --max_pending after the next look."""
    bench = Bench()
    totals = Totals({"1h": 3600})
    upkeep = _upkeep(bench, totals, limits=UsageLimits(records=100))
    for number in range(2):
        bench.send(
            Sent("response", f"{number}", NOW + number, f"r{number}", MAIN, ("", ""), (1,) * 12_000), now=NOW + number
        )
        totals.rebuild(bench.store, NOW + number)
        upkeep.step(NOW + number)
        assert len(bench.store._records) == 100


def test_an_event_that_cannot_be_applied_fails_alone() -> None:
    """When a group meets a fault of ours, the events that have nothing to do with it are applied all the same."""
    bench = Bench()
    bench.store.commit(Change({row_key(digest_of("bad"), 0): Write(0, b"\xc1", NOW + DAY, RECORDS)}))
    answered: queue.Queue[list[Any]] = queue.Queue()
    totals = Totals({"1h": 3600})
    writer = Writer(
        bench.store,
        bench.catalog,
        totals,
        Telemetry(),
        KEEPING,
        max_queue=100,
        series_retention=400 * DAY,
        limits=UsageLimits(),
        deliver=lambda done: [told(outcomes) for told, outcomes in done],
        clock=lambda: NOW,
    )
    writer.start()
    events = [
        Sent("feedback", str(n), NOW, "bad" if n == 5 else f"r{n}", MAIN, ("", ""), (1,), (1,)).event()
        for n in range(9)
    ]
    writer.submit(Submission([observation_of(event, NOWHERE, NOW) for event in events], answered.put))
    outcomes = answered.get(timeout=20)
    assert [outcome for outcome in outcomes if outcome != "accepted"] == [outcomes[5]]
    assert isinstance(outcomes[5], Unavailable)
    assert bench.net()[MAIN]["pairs"] == 8
    assert writer.stop(10)
