"""Tokens: who may send, read or retire, by tokens of their own that can be replaced while the server runs."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from metrics_server.api.routes import Route
from metrics_server.errors import BadConfiguration
from metrics_server.http.token import MAX_FILE_BYTES, token_file
from tests.conftest import Serve
from tests.support.browser import OpenTab
from tests.support.pages import JSON
from tests.support.running import RunningServer
from tests.support.waiting import until

PAIR = {"namespace": "shop", "deployment": "wine", "predictor": "main", "model": "tree", "truth": 1, "prediction": 1}
SERIES = "/v1/models/shop/wine/main/tree"
PASSWORD = {"username": "me", "password": "reader"}
HTML = {"Accept": "text/html"}
OPEN = [Route.HEALTHZ, Route.READYZ, Route.PROTOCOL, Route.OPENAPI, Route.FEEDBACK_SCHEMA, Route.STATIC]
READ = [route for route in Route if "get" in route.operations and route not in OPEN]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _options(directory: Path, **tokens: str) -> list[str]:
    """Writes files of tokens, and names them by their options."""
    for name, content in tokens.items():
        (directory / name).write_text(content)
    return [
        word for name in tokens for word in (f"--{name}_token_file".replace("--both_", "--"), str(directory / name))
    ]


@pytest.fixture
def apart(serve: Serve, tmp_path: Path) -> RunningServer:
    """A server with a token for each thing, and one for sending and retiring."""
    return serve(
        "--store", "memory://", *_options(tmp_path, both="owner", send="sender", read="reader", delete="deleter")
    )


def _status_of_each(server: RunningServer, headers: dict[str, str]) -> tuple[int, int, int]:
    """What who shows this gets for sending, reading and retiring, in this order."""
    return (
        server.post(PAIR, {**JSON, **headers}, "/v1/feedback").status,
        server.get(SERIES, headers).status,
        server.request("DELETE", SERIES, headers=headers).status,
    )


def test_each_token_opens_its_own_door(apart: RunningServer) -> None:
    """Who may send may not read or retire, and so on; the tokens of --token_file send and retire, as ever."""
    assert apart.post(PAIR, {**JSON, **bearer("owner")}, "/v1/feedback").status == 200
    assert _status_of_each(apart, {}) == (401, 401, 401)
    assert _status_of_each(apart, bearer("none")) == (401, 401, 401)
    assert _status_of_each(apart, bearer("reader")) == (401, 200, 401)
    assert _status_of_each(apart, bearer("sender")) == (200, 401, 401)
    assert _status_of_each(apart, bearer("deleter")) == (401, 401, 204)
    assert _status_of_each(apart, bearer("owner")) == (200, 401, 204)


@pytest.mark.parametrize(
    ("option", "expected"),
    [("both", (401, 200, 401)), ("send", (401, 200, 403)), ("read", (200, 401, 403)), ("delete", (200, 200, 401))],
)
def test_a_file_closes_what_it_is_for_alone(
    serve: Serve, tmp_path: Path, option: str, expected: tuple[int, int, int]
) -> None:
    """What no file is for stays open, but nobody may retire a series without a token that is for it."""
    server = serve("--store", "memory://", *_options(tmp_path, **{option: "s3cret"}))
    assert server.post(PAIR, {**JSON, **bearer("s3cret")}, "/v1/feedback").status == 200
    assert _status_of_each(server, {}) == expected


def test_whatever_shows_models_asks_its_reader(apart: RunningServer) -> None:
    """With --read_token_file each route that shows anything of models or events is 401 without a token, to GET and HEAD
    alike; what tells of the server's health, and what is the same for all, is open."""
    assert apart.post(PAIR, {**JSON, **bearer("sender")}, "/v1/feedback").status == 200
    for route in READ:
        path = route.path(*("shop", "wine", "main", "tree")[: len(route.names)])
        for method in ("GET", "HEAD"):
            assert apart.request(method, path, headers=HTML).status == 401, route
            assert apart.request(method, path, headers={**HTML, **bearer("reader")}).status == 200, route
    for route in OPEN:
        assert apart.get(route.path(*("page.css" for _ in route.names))).status == 200, route
    assert apart.get("/").body == b"Alive"
    assert apart.get("/none").status == 404


def test_a_reader_in_a_browser_is_asked_for_a_password(apart: RunningServer) -> None:
    """The token is a password with any user name; a malformed one, or the token as user name, is none."""
    assert apart.get("/ui", {**HTML, **basic("anybody", "reader")}).status == 200
    assert apart.get("/ui", {**HTML, **basic("", "reader")}).status == 200
    for wrong in (
        basic("reader", ""),
        basic("reader", "wrong"),
        {"Authorization": "Basic §"},
        {"Authorization": "Basic"},
    ):
        assert apart.get("/ui", {**HTML, **wrong}).status == 401


def test_a_token_for_reading_is_in_no_address(apart: RunningServer) -> None:
    """Who reads shows the token in a header: addresses are kept in histories and logs."""
    assert apart.get("/v1/metrics?access_token=reader").status == 401
    assert apart.get("/v1/models?access_token=reader").status == 401


def test_a_refusal_says_what_is_wanted(apart: RunningServer) -> None:
    """As RFC 6750 has it: the scheme with a realm, and invalid_token only for who has shown one; a reader is offered
    the scheme that browsers know in a line of its own. What a refused token was is not said."""
    for sent, said in (({}, ""), (bearer("guess"), ', error="invalid_token"')):
        challenge = f'Bearer realm="feedback metrics server"{said}'
        posted = apart.post(PAIR, {**JSON, **sent}, "/v1/feedback")
        read = apart.get("/v1/metrics", sent)
        assert posted.headers.get_all("WWW-Authenticate") == [challenge]  # type: ignore[attr-defined]
        assert read.headers.get_all("WWW-Authenticate") == [  # type: ignore[attr-defined]
            challenge,
            'Basic realm="feedback metrics server", charset="UTF-8"',
        ]
        assert posted.reason == read.reason == "unauthorized"
        assert b"guess" not in posted.body + read.body


def test_tokens_are_replaced_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    """A file with two tokens takes both; what is written into it, or put in its place, counts within moments, and what
    has left it does not."""
    server = serve("--store", "memory://", *_options(tmp_path, read="old\n\n  new  \r\n"))
    for token in ("old", "new"):
        assert server.get(SERIES, bearer(token)).status == 404
    (tmp_path / "read").write_text("new\n")
    until(lambda: server.get(SERIES, bearer("old")).status == 401, 10, "the old token still opens")
    (tmp_path / "next").write_text("newer\n")
    (tmp_path / "next").replace(tmp_path / "read")
    until(lambda: server.get(SERIES, bearer("newer")).status == 404, 10, "the newer token does not open")
    assert server.get(SERIES, bearer("new")).status == 401


def test_a_lost_file_opens_and_closes_nothing(serve: Serve, tmp_path: Path) -> None:
    """While a file is away or empty its tokens stay as they were, which is logged once; a new one counts again."""
    server = serve("--store", "memory://", *_options(tmp_path, read="old"))
    path = tmp_path / "read"
    path.write_text("\n")
    until(lambda: "What a changed file held" in server.log.read_text(), 10, "nothing was logged")
    path.unlink()
    assert (server.get(SERIES, bearer("old")).status, server.get(SERIES).status) == (404, 401)
    path.write_text("new")
    until(lambda: server.get(SERIES, bearer("new")).status == 404, 10, "the new token does not open")
    until(lambda: "can be used again" in server.log.read_text(), 10, "the end was not logged")
    said = re.findall(
        r"^\[(\w) \S+ \S+ metrics_server.http.watched_files\] (.*)$", server.log.read_text(), re.MULTILINE
    )
    assert said == [
        ("W", f"What a changed file held before stays in use: --read_token_file {path} is empty"),
        ("I", f"{path} can be used again"),
    ]


def test_a_file_that_is_no_file_of_tokens_is_refused(tmp_path: Path) -> None:
    """A file far too large is not read into memory, and a directory is named as what it is."""
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    for path, why in (("large", "is larger than 65536 bytes"), ("", "Is a directory")):
        with pytest.raises(BadConfiguration, match=f"--read_token_file .*{why}"):
            token_file("read_token_file", str(tmp_path / path))


def test_the_page_works_with_a_password(apart: RunningServer, open_tab: OpenTab) -> None:
    """In a browser that has the password, pages, their pictures and their figures are drawn without a complaint."""
    told = [{**PAIR, "prediction": n % 2} for n in range(30)]
    assert apart.post(told, {**JSON, **bearer("sender")}, "/v1/feedback").status == 200
    tab = open_tab(apart.url, http_credentials=PASSWORD)
    tab.open("/ui")
    tab.do(lambda page: page.get_by_role("link", name="wine").first.click())
    tab.do(lambda page: page.wait_for_selector("figure[data-chart] .plot > *", state="attached"))
    tab.assert_clean()
