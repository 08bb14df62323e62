"""Events that are posted to another path than `/`: counted and told, or taken below --events_prefix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.settings import load
from tests.conftest import Serve
from tests.support.raw_http import Served, request, serving
from tests.support.running import FEEDBACK, RESPONSE, Answer, RunningServer, ce

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
PAIR = {part: {"data": {"ndarray": [1]}} for part in ("response", "truth")}
ENVELOPE = {"specversion": "1.0", "id": "e", "source": "/l", "type": FEEDBACK, "data": PAIR}
BROWSER = {"Accept": "text/html"}
PATH = "/api/v1/events"


def moved(server: RunningServer, name: str) -> dict[str, float]:
    """The counters of this name that are not 0, by the last of their labels."""
    found: dict[str, float] = {}
    for (sample, labels), value in server.samples().items():
        if sample == name and value:
            key = " ".join(sorted(dict(labels).values()))
            found[key] = value
    return found


def post(server: RunningServer, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
    return server.post(body, headers, path)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (ce(RESPONSE, "e-1", "r-1"), {"predictions": [1]}),
        ({"Content-Type": "application/json", "Ce-Tenant": "a"}, PAIR),
        ({"Content-Type": STRUCTURED}, ENVELOPE),
        ({"Content-Type": f"{BATCH}; charset=utf-8"}, [ENVELOPE]),
    ],
    ids=["binary", "one attribute", "structured", "batched"],
)
def test_an_event_at_an_unknown_path_is_counted_and_told(serve: Serve, headers: dict[str, str], body: Any) -> None:
    """A logger whose URL has a path is told by a 404 where events are taken, and so are /v1/rejected and the page."""
    server = serve("--store", "memory://")
    answer = post(server, f"{PATH}?access_token=s3cret", body, headers)
    assert (answer.status, answer.reason) == (404, "unknown_route")
    told = json.loads(answer.body)["error"]["detail"]
    assert PATH in told
    assert "at /: send them there" in told
    assert "--events_prefix" in told
    assert moved(server, "metrics_server_rejected_total") == {"unknown_route": 1}
    assert moved(server, "metrics_server_events_total") == {"rejected unknown": 1}
    assert moved(server, "metrics_server_received_total") == {"unknown": 1}
    text = server.get("/v1/rejected").body.decode()
    (listed,) = json.loads(text)
    assert (listed["reason"], listed["detail"]) == ("unknown_route", told)
    assert listed.get("id", "") == headers.get("Ce-Id", "")
    assert listed.get("requestid", "") == headers.get("Ce-Requestid", "")
    for page in ("/", "/ui/health"):
        shown = server.get(page, BROWSER).body.decode()
        assert told in shown
        text += shown
    assert "s3cret" not in text


def test_other_requests_to_unknown_paths_are_not_counted(serve: Serve) -> None:
    """What a scanner asks for, and a POST that is no event, is a plain 404; a route that takes none is a 405."""
    server = serve("--store", "memory://")
    event = ce(RESPONSE, "e-1", "r-1")
    asked = [
        ("GET", PATH, event),
        ("GET", "/wp-login.php", {}),
        ("POST", "/wp-login.php", {"Content-Type": "text/plain"}),
    ]
    for method, path, headers in asked:
        answer = server.request(method, path, b"{}" if method == "POST" else None, headers)
        assert (answer.status, answer.reason) == (404, "not_found")
    answer = post(server, "/v1/metrics", {}, event)
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    assert not moved(server, "metrics_server_received_total")
    assert json.loads(server.get("/v1/rejected").body) == []
    assert "unknown address" not in server.get("/", BROWSER).body.decode()


def test_what_is_told_of_a_path_has_bounds(served: Served) -> None:
    """A path that is long, or holds markup, is told in part and escaped; the limits are those of any event."""
    answer = served.ask(request("/<script>" + "x" * 3000, PAIR, "Ce-Id: 1"))
    assert (answer.status, answer.reason) == (404, "unknown_route")
    assert len(answer.body) < 500
    page = served.ask(request("/", b"", "Accept: text/html", method="GET")).body
    assert b"/&lt;script&gt;" in page
    assert b"<script>x" not in page
    assert served.ask(request(PATH, b"x" * 2_000, "Ce-Id: 1")).status == 413
    assert served.ask(request(PATH, PAIR, "Ce-Id: 1", "Ce-Id: 2")).status == 400
    assert served.page().received == sum(served.page().outcomes.values()) == 3


@pytest.fixture
def served() -> Any:
    """A server that takes small bodies only."""
    with serving("--max_body_bytes", "1000") as server:
        yield server


def test_events_are_taken_below_the_prefix(serve: Serve) -> None:
    """At the path and anywhere below it an event counts as at /, in any mode, and so does the handshake; once."""
    server = serve("--store", "memory://", "--events_prefix", "/seldon-events")
    sent: list[tuple[str, Any, dict[str, str]]] = [
        ("/seldon-events", PAIR, ce(FEEDBACK, "1", "r-1")),
        ("/seldon-events/", PAIR, ce(FEEDBACK, "2", "r-2")),
        ("/seldon-events/shop/wine?x=1", ENVELOPE, {"Content-Type": STRUCTURED}),
        ("/seldon-events/a%20b/c", [{**ENVELOPE, "id": "4"}], {"Content-Type": BATCH}),
        ("/", PAIR, ce(FEEDBACK, "1", "r-1")),
    ]
    for path, body, headers in sent:
        answer = post(server, path, body, headers)
        assert (answer.status, answer.body) == (200, b""), (path, answer.body)
    assert server.value("model_support", window="1h") == 4
    assert moved(server, "metrics_server_events_total") == {"accepted feedback": 4, "duplicate feedback": 1}
    shake = server.request("OPTIONS", "/seldon-events/shop", headers={"WebHook-Request-Origin": "a.example"})
    assert (shake.status, shake.headers["WebHook-Allowed-Origin"]) == (204, "a.example")
    assert server.get("/seldon-events/shop").status == 405
    answer = post(server, "/seldon-events-2", PAIR, ce(FEEDBACK, "5"))
    assert answer.reason == "unknown_route"
    assert "at /, at /seldon-events and below it" in json.loads(answer.body)["error"]["detail"]


def test_the_prefix_asks_for_the_token(serve: Serve, tmp_path: Any) -> None:
    """With a token, an event below the prefix or at an unknown path needs it like one at /."""
    (tmp_path / "token").write_text("s3cret")
    server = serve("--store", "memory://", "--token_file", str(tmp_path / "token"), "--events_prefix", "/in")
    for path, status in (("/in/a", 200), (PATH, 404)):
        assert post(server, path, PAIR, ce(FEEDBACK, path)).status == 401
        assert post(server, f"{path}?access_token=s3cret", PAIR, ce(FEEDBACK, path)).status == status


@pytest.mark.parametrize("prefix", ["seldon-events", "/", "/a/", "/a?b", "/a b", "//a", "/{x}"])
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    """What cannot be a path is told with an example."""
    with pytest.raises(BadConfiguration, match="--events_prefix .*: want a path such as /seldon-events"):
        load(["--events_prefix", prefix], {})


@pytest.mark.parametrize("prefix", ["/v1/feedback", "/metrics", "/v1/models/a/b"])
def test_a_prefix_that_is_a_route_stops_the_start(serve: Serve, prefix: str) -> None:
    """The server's own routes cannot be taken for events."""
    with pytest.raises(AssertionError, match="--events_prefix .*: the server has a route there"):
        serve("--store", "memory://", "--events_prefix", prefix)
