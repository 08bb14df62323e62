"""The table of routes: the server, its OpenAPI document, its links and the reference of routes all say what it says."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from metrics_server.api.routes import Route
from tests.conftest import Serve
from tests.support.running import ROOT, RunningServer

SERVER = ROOT / "metrics_server"
TABLE = SERVER / "api/routes.py"
# The addresses of another server, the one that is played.
PLAYED = {SERVER / "commands/simulation" / name for name in ("ingress.py", "api_page.py")}
TOKEN = {"Authorization": "Bearer s3cret", "Content-Type": "application/json"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "PROPFIND", "DELETE")
REQUEST_ID = "r-1"
PAIR = {"truth": 1, "prediction": 1, "request_id": REQUEST_ID}
SELDON_PAIR = {name: {"data": {"ndarray": [1]}} for name in ("truth", "response")}


def methods(route: Route) -> set[str]:
    """The methods of a route, HEAD where GET is."""
    named = {method.upper() for method in route.operations}
    return named | ({"HEAD"} if "GET" in named else set())


def address(route: Route) -> str:
    """An address of the route where something is: a series without names, a file of the page, a request."""
    there = {"name": "page.css", "id": REQUEST_ID}
    return route.path(*(there.get(name, "-") for name in route.names))


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> RunningServer:
    """A server that lets its owner do everything, with a series without names."""
    (tmp_path / "token").write_text("s3cret")
    server = serve("--store", "memory://", "--token_file", str(tmp_path / "token"))
    assert server.post(PAIR, TOKEN, "/v1/feedback").status == 200
    return server


def test_every_row_is_served_with_its_methods_and_no_other(server: RunningServer) -> None:
    """Each route answers each of its methods with success, and any other with a 405 that allows exactly its methods."""
    for method in METHODS:  # DELETE comes last: it takes away what the others read
        for route in Route:
            body = (PAIR if route is Route.FEEDBACK else SELDON_PAIR) if method in ("POST", "PUT", "PATCH") else None
            answer = server.request(method, address(route), body, TOKEN)
            if method in methods(route):
                assert answer.status in (200, 204), (method, route, answer.status, answer.body)
            else:
                assert answer.status == 405, (method, route, answer.status)
                assert set(answer.headers["Allow"].split(", ")) == methods(route), (method, route)


def test_what_is_in_no_row_is_not_found(server: RunningServer) -> None:
    """A path that no row has, or a part that its row does not take, is a 404 for events as for all else."""
    for path in ("/v1", "/v1/feedback/", "/ui/", "/seldon/a_b/c/api/v1.0/feedback", "/seldon/a/b/api/v2.0/feedback"):
        for method in ("GET", "POST"):
            body = SELDON_PAIR if method == "POST" else None
            assert server.request(method, path, body, TOKEN).status == 404, (method, path)


def test_no_two_rows_share_a_path() -> None:
    """Each address has one row, whatever its parts are called."""
    assert len({route.pattern for route in Route}) == len(Route)


def test_every_row_is_described(server: RunningServer) -> None:
    """/openapi.json of a running server has the paths and methods of the table, and no more."""
    paths = json.loads(server.get("/openapi.json").body)["paths"]
    found = {(path, method) for path, item in paths.items() for method in item if method != "parameters"}
    assert found == {(route.template, method) for route in Route for method in route.operations}


def test_every_row_is_documented() -> None:
    """The reference of routes has the paths and methods of the table, and no more."""
    text = (ROOT / "docs/reference/routes.md").read_text()
    found = {
        (method, path)
        for named, paths in re.findall(r"^\| (`[A-Z`, ]+`) \| `(/[^|]*)` \|", text, re.MULTILINE)
        for method in re.findall(r"[A-Z]+", named)
        for path in paths.split("`, `")
    }
    assert found == {(method, route.template) for route in Route for method in methods(route)}


def _literals(path: Path) -> Iterator[str]:
    """The strings of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def _spelt(route: Route) -> re.Pattern[str]:
    """A path of this route at the start of a text: as it is, or relative where no other word is spelt so."""
    stem = route.stem.removeprefix("/")
    return re.compile(("/?" if "/" in stem else "/") + re.escape(stem) + (r"" if stem.endswith("/") else r"(?![\w-])"))


SPELT = [_spelt(route) for route in Route if route is not Route.ROOT]  # "/" stands in every path


def _found(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if any(pattern.match(text) for pattern in SPELT)]


def test_a_path_is_written_in_the_table_alone() -> None:
    """No other module spells a path of the table: whoever moves a route changes its row."""
    for path in set(SERVER.rglob("*.py")) - {TABLE, *PLAYED}:
        assert not _found(_literals(path)), path


def test_templates_link_by_the_table() -> None:
    """No template and no script spells a path of the table either."""
    for path in (*SERVER.glob("web/templates/*.html"), *SERVER.glob("web/static/*.js")):
        words = re.split(r"[\s\"'`<>=}]+", path.read_text())
        assert not _found(words), path


def test_a_path_that_is_written_elsewhere_is_seen() -> None:
    """The two tests above know a path when they see one: whole, begun, relative, and not what only looks like one."""
    seen = ["/v1/metrics", "/ui/models/", "ui/health", "/healthz", "/seldon/a", "/ui", "/v1/models?x=1"]
    assert _found([*seen, "/", "metrics", "/metricsx", "protocol", "/v1", "/etc"]) == seen
