"""The page of a deployment's API, as the ingress of the simulated cluster serves it."""

from __future__ import annotations

import http.client
import json
import re
import sys
from collections.abc import Iterator
from html import unescape

import pytest

from tests.support.peers.programs import Program
from tests.support.running import free_port

MODELS = ["seldon/multiclass-model", "seldon/digits", "seldon/diabetes"]


class Ingress:
    """Seldon's paths on a port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, body: str | None = None) -> tuple[int, str, str]:
        """Status, content type and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        said = answer.status, answer.headers["Content-Type"], answer.read().decode()
        connection.close()
        return said


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    port = free_port()
    folder = tmp_path_factory.mktemp("simulated")
    command = [sys.executable, "-m", "metrics_server", "simulate", "--serve", "--rate", "0", "--past", "0"]
    command += ["--url", f"http://127.0.0.1:{free_port()}", "--ingress_port", str(port)]
    program = Program(folder / "log", command)
    try:
        program.await_answer(f"http://127.0.0.1:{port}/")
        yield Ingress(port)
    finally:
        program.stop()


@pytest.mark.parametrize("model", MODELS)
def test_the_examples_of_the_document_work(ingress: Ingress, model: str) -> None:
    """Each call that the OpenAPI document names is answered with 200 when its example is posted."""
    status, kind, text = ingress.ask(f"/seldon/{model}/api/v1.0/doc/seldon.json")
    assert (status, kind) == (200, "application/json; charset=UTF-8")
    paths = json.loads(text)["paths"]
    assert [path.rpartition("/")[2] for path in paths] == ["predictions", "feedback"]
    for path, operations in paths.items():
        body = operations["post"]["requestBody"]["content"]["application/json"]["example"]
        assert ingress.ask(path, json.dumps(body))[0] == 200


@pytest.mark.parametrize("model", MODELS)
def test_the_forms_of_the_page_work(ingress: Ingress, model: str) -> None:
    """The page is for a browser, has what it needs in itself, and what its forms send where they send it is
    answered."""
    page = f"/seldon/{model}/api/v1.0/doc/"
    status, kind, text = ingress.ask(page)
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert not re.search(r"(src|href)=\"?https?:", text)
    forms = re.findall(r'action="\.\./(\w+)".*?<textarea[^>]*>(.*?)</textarea>', text, re.DOTALL)
    assert [name for name, _ in forms] == ["predictions", "feedback"]
    for name, body in forms:
        assert ingress.ask(page.replace("doc/", name), unescape(body))[0] == 200


def test_a_deployment_that_is_not_there_has_no_page(ingress: Ingress) -> None:
    """The error is in Seldon's form, as for a call."""
    status, kind, text = ingress.ask("/seldon/seldon/nothing/api/v1.0/doc/")
    assert (status, kind) == (404, "application/json")
    assert json.loads(text)["status"]["code"] == -1
