"""What stands around the models of a SeldonDeployment: an ingress, and an executor that walks the graph and logs.

The executor is a Go program. This one speaks to real Python microservices over the same internal routes, and logs the
same events: which, and of which nodes, is the behaviour of executor 1.17.1.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from tests.support.running import FEEDBACK, REQUEST, RESPONSE

NAMESPACE = "shop"
PREDICTOR = "main"
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Node:
    """A node of a graph; `route` names the internal route that it serves: predict, route or transform-input."""

    name: str
    url: str
    route: str = "predict"
    children: tuple[Node, ...] = ()
    logs: bool = True

    def call(self, route: str, body: bytes) -> bytes:
        """What the microservice answers."""
        request = urllib.request.Request(f"{self.url}/{route}", body, {"Content-Type": JSON_TYPE})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def all(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.all()


@dataclass(frozen=True)
class Event:
    """An event that waits in the executor's queue."""

    kind: str
    deployment: str
    node: str
    puid: str
    body: bytes
    content_type: str = JSON_TYPE

    def headers(self) -> dict[str, str]:
        """As the worker sends it: its time is that of sending."""
        return {
            "User-Agent": "Go-http-client/1.1",
            "Ce-Endpoint": PREDICTOR,
            "Ce-Id": str(uuid4()),
            "Ce-Inferenceservicename": self.deployment,
            "Ce-Modelid": self.node,
            "Ce-Namespace": NAMESPACE,
            "Ce-Protocol": "seldon",
            "Ce-Requestid": self.puid,
            "Ce-Source": "http://:8000/",
            "Ce-Specversion": "1.0",
            "Ce-Time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z",
            "Ce-Type": self.kind,
            "Content-Type": self.content_type,
        }


class Executor:
    """The executors of some deployments behind one ingress. Events wait until they are taken, so that a test decides
    the order in which they arrive."""

    def __init__(self) -> None:
        self.graphs: dict[str, Node] = {}
        self.endpoint = ""
        self.last_feedback = b""
        self._events: list[Event] = []

    def take(self) -> list[Event]:
        """The events since the last call."""
        taken, self._events = self._events, []
        return taken

    def predict(self, deployment: str, puid: str, body: bytes) -> bytes:
        return self._predict(self.graphs[deployment], deployment, puid, body)

    def feedback(self, deployment: str, puid: str, body: bytes) -> bytes:
        """Every node logs before its model is called; without injected routing all children are visited."""
        self.last_feedback = body
        nodes = list(self.graphs[deployment].all())
        for node in nodes:
            self._log(FEEDBACK, node, deployment, puid, body)
        return [node.call("send-feedback", body) for node in reversed(nodes)][-1]

    def _predict(self, node: Node, deployment: str, puid: str, body: bytes) -> bytes:
        self._log(REQUEST, node, deployment, puid, body)
        if node.route == "route":
            branch = json.loads(node.call("route", body))["data"]["ndarray"][0][0]
            answer = self._predict(node.children[int(branch)], deployment, puid, body)
            return self._log(RESPONSE, node, deployment, puid, answer)
        own = self._log(RESPONSE, node, deployment, puid, node.call(node.route, body))
        for child in node.children:
            self._log(REQUEST, node, deployment, puid, own)
            own = self._log(RESPONSE, node, deployment, puid, self._predict(child, deployment, puid, own))
        return own

    def _log(self, kind: str, node: Node, deployment: str, puid: str, body: bytes) -> bytes:
        if node.logs:
            self._events.append(Event(kind, deployment, node.name, puid, body))
        return body


class _Ingress(BaseHTTPRequestHandler):
    """`/seldon/<namespace>/<deployment>/api/v1.0/predictions` and `…/feedback`."""

    executor: Executor

    def do_POST(self) -> None:
        deployment, *_, verb = self.path.split("/")[3:]
        puid = self.headers["Seldon-Puid"] or str(uuid4())
        body = self.rfile.read(int(self.headers["Content-Length"]))
        serve = self.executor.feedback if verb == "feedback" else self.executor.predict
        try:
            status, answer = 200, serve(deployment, puid, body)
        except urllib.error.HTTPError as error:
            status, answer = 500, error.read()
        self.send_response(status)
        self.send_header("Content-Type", JSON_TYPE)
        self.send_header("Seldon-Puid", puid)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *said: Any) -> None:
        """Says nothing."""


@contextmanager
def executing() -> Iterator[Executor]:
    """Executors behind an ingress on a free port."""
    executor = Executor()
    handler = type("Ingress", (_Ingress,), {"executor": executor})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as ingress:
        executor.endpoint = f"127.0.0.1:{ingress.server_port}"
        thread = threading.Thread(target=ingress.serve_forever)
        thread.start()
        try:
            yield executor
        finally:
            ingress.shutdown()
            thread.join()
