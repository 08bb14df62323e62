"""What every answer tells a browser, whoever made it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_server.api.routes import Route
from tests.conftest import Serve
from tests.support.pages import JSON
from tests.support.raw_http import Client, request
from tests.support.running import FEEDBACK, RunningServer, ce

SERIES = ("shop", "wine", "main", "classifier")
PAIR = {"response": {"data": {"ndarray": [1]}}, "truth": {"data": {"ndarray": [1]}}}
HTML = {"Accept": "text/html"}
STRICT = "default-src 'none'; frame-ancestors 'none'"
READER = {"Authorization": "Bearer reader"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a pair, open to all."""
    running = RunningServer(tmp_path_factory.mktemp("headers"), "--store", "memory://")
    assert running.post(PAIR, ce(FEEDBACK, "1")).status == 200
    yield running
    running.stop()


def _address(route: Route) -> str:
    return route.path(*(("page.css",) if route is Route.STATIC else SERIES[: len(route.names)]))


ASKED = [
    *((method, _address(route)) for route in Route for method in ("GET", "HEAD", "PUT", "OPTIONS", "DELETE")),
    ("GET", "/none"),
    ("GET", "/v1/models?window=none"),
    ("POST", "/"),
    ("POST", "/v1/feedback"),
    ("POST", "/feedback"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_every_answer_is_for_this_server_alone(server: RunningServer, method: str, path: str) -> None:
    """Successes and errors of every route say once that they are what they say, which pages may show them, and that
    nobody is told where a reader comes from; what is no page may run and be framed nowhere."""
    answer = server.request(method, path, {} if method in ("POST", "PUT") else None, {**HTML, **JSON})
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ):
        assert answer.headers.get_all(name) == [value], name  # type: ignore[attr-defined]
    (policy,) = answer.headers.get_all("Content-Security-Policy")  # type: ignore[attr-defined]
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    assert is_page == (policy != STRICT)
    assert "frame-ancestors 'self'" in policy or not is_page


def test_an_answer_to_an_event_says_it_too(server: RunningServer) -> None:
    """The empty 200 of an event is never taken for anything else; a refusal, what never became a request, and the
    status of a feedback in JSON have what all others have."""
    empty = server.post(PAIR, ce(FEEDBACK, "2"))
    assert (empty.status, empty.body, empty.headers["X-Content-Type-Options"]) == (200, b"", "nosniff")
    said = server.post({**PAIR, "truth": 1, "prediction": 1}, JSON, "/v1/feedback")
    assert said.headers["Content-Security-Policy"] == STRICT
    for sent in (request("/", b"{"), b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"nonsense\r\n\r\n"):
        with Client(server.port) as client:
            client.send(sent)
            answer = client.answer()
        assert answer.status >= 400
        assert answer.headers["content-security-policy"] == STRICT


def test_what_takes_a_token_is_kept_nowhere(serve: Serve, tmp_path: Path) -> None:
    """With --read_token_file no cache keeps what is read, a picture or an error as little as a page; what is open to
    all may be kept as before."""
    (tmp_path / "token").write_text("reader")
    guarded = serve("--store", "memory://", "--read_token_file", str(tmp_path / "token"))
    assert guarded.post(PAIR, ce(FEEDBACK, "1")).status == 200
    for route in Route:
        if "get" in route.operations and route.operations["get"].who == "reader":
            for headers in ({}, READER):
                answer = guarded.get(_address(route), {**HTML, **headers})
                assert answer.headers["Cache-Control"] == "no-store", (route, answer.status)
    assert guarded.get("/v1/models/a/b/c/d", READER).headers["Cache-Control"] == "no-store"
    assert guarded.get("/ui/static/page.css").headers["Cache-Control"] == "no-cache"


def test_what_is_open_may_be_kept(server: RunningServer) -> None:
    """Without tokens pictures of trends are kept by the browser, and nothing is said of /v1/metrics."""
    assert "max-age" in server.get(_address(Route.TREND)).headers["Cache-Control"]
    assert server.get("/v1/metrics").headers["Cache-Control"] is None


def test_a_page_runs_what_it_names_and_nothing_else(server: RunningServer) -> None:
    """No script is inline, each is of this server, and its policy allows neither inline scripts nor evaluation."""
    page = server.get("/ui", HTML)
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert not re.search(r"unsafe-(inline|eval)", policy)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page.body.decode(), re.DOTALL)
    assert scripts
    for attributes, content in scripts:
        assert 'src="' in attributes
        assert not content.strip()
    assert "error" in json.loads(server.get("/none").body)
