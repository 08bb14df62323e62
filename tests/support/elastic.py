"""A server that answers as Elasticsearch documents its GET, and documents as Seldon's request logger writes them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.running import RunningServer
from tests.support.waiting import until

INDEX = "inference-log-seldon-shop-wine-main"
SCORES = [0.1, 0.2, 0.7]


def truth(*rows: Any) -> dict[str, Any]:
    return {"truth": {"data": {"ndarray": list(rows)}}}


def logged(instance: Any, days_ago: float = 0.0, **more: Any) -> dict[str, Any]:
    """A document as the request logger writes it."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    part = {
        "instance": instance,
        "dataType": "tabular",
        "ce-time": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "ce-source": "http::8000",
    }
    names = {
        "Ce-Inferenceservicename": "wine",
        "Ce-Endpoint": "main",
        "Ce-Namespace": "shop",
        "Ce-Modelid": "classifier",
    }
    return {"request": {"instance": [5.1, 3.5]}, "response": part, "ServingEngine": "seldon", **names, **more}


def _included(source: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The fields of a document that `_source` names."""
    found: dict[str, Any] = {}
    for name in names:
        outer, _, inner = name.partition(".")
        if inner and inner in source.get(outer, {}):
            found.setdefault(outer, {})[inner] = source[outer][inner]
        elif not inner and outer in source:
            found[outer] = source[outer]
    return found


class _Get(http.server.BaseHTTPRequestHandler):
    server: Elastic

    def do_GET(self) -> None:
        self.server.asked.append((unquote(urlsplit(self.path).path), self.headers.get("Authorization")))
        self.server.gate.wait(30)
        status, body, headers = self.server.answers or self._found()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # the other side may have gone
            self.wfile.write(body)

    def _found(self) -> tuple[int, bytes, dict[str, str]]:
        url = urlsplit(self.path)
        _, index, what, document_id = (unquote(part) for part in url.path.split("/"))
        assert what == "_doc"
        if index not in self.server.documents:
            why = {"type": "index_not_found_exception", "reason": f"no such index [{index}]", "index": index}
            return 404, json.dumps({"error": {"root_cause": [why], **why}, "status": 404}).encode(), {}
        about = {"_index": index, "_type": "_doc", "_id": document_id}
        source = self.server.documents[index].get(document_id)
        if source is None:
            return 404, json.dumps({**about, "found": False}).encode(), {}
        included = _included(source, parse_qs(url.query)["_source"][0].split(","))
        return (
            200,
            json.dumps(
                {**about, "_version": 1, "_seq_no": 0, "_primary_term": 1, "found": True, "_source": included}
            ).encode(),
            {},
        )

    def log_message(self, *unused: Any) -> None:
        """Says nothing."""


class Elastic(http.server.ThreadingHTTPServer):
    """Answers `GET /<index>/_doc/<id>`; while `gate` is not set it lets everybody wait; `answers` stands for all of its
    answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Get)
        self.documents: dict[str, dict[str, dict[str, Any]]] = {INDEX: {}}
        self.asked: list[tuple[str, str | None]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.answers: tuple[int, bytes, dict[str, str]] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *unused: Any) -> None:
        """A client that turns away from a certificate is no news."""


@contextmanager
def running_elastic() -> Iterator[Elastic]:
    """A real HTTP server on a thread of its own."""
    with Elastic() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()


def await_lookups(server: RunningServer, outcome: str, count: float = 1) -> None:
    """Waits until so many look-ups ended like this."""
    until(
        lambda: server.value("metrics_server_lookups_total", outcome=outcome) == count,
        20,
        f"not {count} look-ups ended as {outcome}",
    )
