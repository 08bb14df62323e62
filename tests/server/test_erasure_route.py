"""DELETE /v1/requests/{id}: what is kept of one request leaves, by who has the token, and stays away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metrics_server.pairing.observation import digest_of
from tests.conftest import Serve
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce

TOKEN = "s3cret-of-the-owner"
OWNER = {"Authorization": f"Bearer {TOKEN}"}
PAIR = {"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "truth": {"data": {"ndarray": [[0, 1]]}}}


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """The options of a server that has a token, and its state in a file."""
    (tmp_path / "token").write_text(TOKEN)
    return ["--store", f"sqlite:///{tmp_path}/state.db", "--token_file", str(tmp_path / "token")]


def send(server: RunningServer, event_id: str, request_id: str, body: object = PAIR, kind: str = FEEDBACK) -> int:
    return server.post(body, {**ce(kind, event_id, request_id), **OWNER}).status


def erase(server: RunningServer, request_id: str, headers: dict[str, str] = OWNER, query: str = "") -> tuple[int, str]:
    answer = server.request("DELETE", f"/v1/requests/{request_id}{query}", headers=headers)
    return answer.status, answer.body.decode()


def support(server: RunningServer) -> float | None:
    """The pairs of the last day."""
    return server.value("model_support", window="1d")


def test_only_the_owner_erases(serve: Serve, options: list[str]) -> None:
    """Without the token of the server nothing is erased, and without one configured nobody may."""
    server = serve(*options)
    assert send(server, "1", "r-1") == 200
    assert erase(server, "r-1", {})[0] == 401
    assert erase(server, "r-1", {"Authorization": "Bearer wrong"})[0] == 401
    assert erase(server, "r-1", query="?nonsense=1")[0] == 400
    assert erase(serve("--store", "memory://"), "r-1", {})[0] == 403
    assert support(server) == 1.0


def test_a_request_leaves_and_stays_away(serve: Serve, options: list[str]) -> None:
    """Its pair leaves the windows; its redelivery is a 200 that is counted as erased, over a restart too."""
    server = serve(*options)
    for number in (1, 2):
        assert send(server, f"{number}", f"r-{number}") == 200
    assert erase(server, "r-1") == (204, "")
    server.stop()
    again = serve(*options)
    assert send(again, "1", "r-1") == send(again, "late", "r-1") == 200
    assert send(again, "other", "r-1", {"data": {"ndarray": [[0.2, 0.8]]}}, RESPONSE) == 200
    assert again.value("metrics_server_events_total", type="feedback", outcome="erased") == 2.0
    assert again.value("metrics_server_events_total", type="response", outcome="erased") == 1.0
    assert support(again) == 1.0
    told = again.post(
        b'{"request_id": "r-1", "truth": 1}', {"Content-Type": "application/json", **OWNER}, "/v1/feedback"
    )
    assert json.loads(told.body) == {"status": "erased"}


def test_an_erasure_leaves_a_trail_without_the_id(serve: Serve, options: list[str]) -> None:
    """It is counted, and logged by the digest of the id; the list of refused events tells of the request no more."""
    server = serve(*options)
    assert send(server, "1", "personal-7") == 200
    assert send(server, "2", "personal-7", {"truth": 1}) in {400, 422}
    assert "personal-7" in server.get("/v1/rejected").body.decode()
    assert erase(server, "personal-7")[0] == 204
    assert server.value("metrics_server_erased_requests_total") == 1.0
    assert "personal-7" not in server.get("/v1/rejected").body.decode()
    server.stop()
    log = server.log.read_text()
    assert digest_of("personal-7").hex() in log
    assert "personal-7" not in log


def test_what_cannot_be_undone_is_said(serve: Serve, options: list[str]) -> None:
    """A request of which nothing is kept is a 409 that says what of it stays, and changes nothing."""
    server = serve(*options)
    assert send(server, "1", "r-1") == 200
    status, body = erase(server, "r-2")
    assert status == 409
    assert json.loads(body)["error"]["reason"] == "nothing_kept"
    assert "--history" in body
    assert erase(server, "r-1")[0] == 204
    assert erase(server, "r-1")[0] == 409
    assert send(server, "2", "r-2") == 200
    assert support(server) == 1.0
