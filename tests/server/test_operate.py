"""What an operator sees: exit codes, messages, TLS, replies that arrive, series that leave."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event

from tests.conftest import Serve
from tests.support.replies import await_outcome, receiving
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
    with receiving(handler) as url:
        yield handler, url


def test_replies_reach_the_reply_url_once_each(serve: Serve, sink: tuple[type[_Sink], str]) -> None:
    """Each accepted feedback is also sent to --reply_url as the event it was answered with; a repeat is not."""
    handler, url = sink
    server = serve("--store", "memory://", "--event_type", "reply", "--event_source", "/metrics", "--reply_url", url)
    answer = server.post(PAIR, ce(FEEDBACK, "1", "r 1"))
    server.post(PAIR, ce(FEEDBACK, "1", "r 1"))
    await_outcome(server, "delivered", 1)
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
    await_outcome(server, "refused", 1)
    handler.status = 503
    assert server.post(PAIR, ce(FEEDBACK, "2", "r2")).status == 200
    await_outcome(server, "failed", 1)
