"""The event route, on Tornado's low-level interface: a POST of events costs half of what a RequestHandler would.

Everything else is handed on to the ordinary Application. The limits on headers and bodies sit here, with Tornado's own far
above, because Tornado answers what is over its limits with an empty 400 or just closes.
"""

from __future__ import annotations

import hmac
import logging
from http.client import responses
from typing import Any
from urllib.parse import parse_qs

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError
from tornado.web import Application

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest import Answer, Ingest

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16 * 2**10
EVENT_PATHS = ("/",)
CE_PREFIX = "ce-"
SINGLE = ("content-type", "content-encoding", "content-length", "authorization")


class Gate:
    """What all event requests of this server share: the limits, the token, and how much is being received."""

    def __init__(self, ingest: Ingest, *, max_body_bytes: int, max_bodies_bytes: int, token: str = "") -> None:
        self.ingest = ingest
        self.max_body_bytes = max_body_bytes
        self.max_bodies_bytes = max_bodies_bytes
        self.token = token
        self.receiving_bytes = 0
        self.open_requests = 0
        self.draining = False

    def check_token(self, headers: HTTPHeaders, query: str) -> None:
        """Raises `Rejected` unless the request carries the token as a bearer token or as access_token in the query."""
        if not self.token:
            return
        scheme, _, sent = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            sent = parse_qs(query).get("access_token", [""])[0]
        if not hmac.compare_digest(sent.strip().encode(), self.token.encode()):
            raise Rejected(Reason.UNAUTHORIZED, "a bearer token is required")


class Router(HTTPServerConnectionDelegate):
    """Gives every request to the event route or to the Application."""

    def __init__(self, gate: Gate, application: Application) -> None:
        self._gate = gate
        self._application = application

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return EventDelegate(self._gate, self._application, server_conn, request_conn)


class EventDelegate(HTTPMessageDelegate):
    """One request: reads it within the limits, hands it to ingest, writes the answer when it comes."""

    __slots__ = (
        "_application", "_body", "_closed", "_connection", "_encoding", "_error", "_events", "_full", "_gate", "_inner", "_keep_alive",
        "_length", "_server_conn", "_type",
    )  # fmt: skip

    def __init__(self, gate: Gate, application: Application, server_conn: object, connection: HTTPConnection) -> None:
        self._gate = gate
        self._application = application
        self._server_conn = server_conn
        self._connection = connection
        self._inner: HTTPMessageDelegate | None = None
        self._body: list[bytes] = []
        self._length = 0
        self._error: Rejected | None = None
        self._full = False
        self._closed = False
        self._keep_alive = True

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Any:
        path, _, query = start_line.path.partition("?")
        if start_line.method != "POST" or path not in EVENT_PATHS:
            self._inner = self._application.start_request(self._server_conn, self._connection)
            return self._inner.headers_received(start_line, headers)
        self._gate.open_requests += 1
        try:
            self._read_headers(start_line, headers, query)
        except Rejected as error:
            self._error = error
            if headers.get("Expect", "").lower() == "100-continue":  # it has not sent the body yet, and need not
                self._gate.ingest.refuse(error, self._answer)
        return None

    def _read_headers(self, start_line: RequestStartLine, headers: HTTPHeaders, query: str) -> None:
        self._keep_alive = _keeps_alive(start_line, headers)
        events: dict[str, str] = {}
        size = 0
        for name, value in headers.get_all():
            size += len(name) + len(value) + 4
            lower = name.lower()
            if lower.startswith(CE_PREFIX):
                lower = lower[3:]
                if lower in events:
                    raise Rejected(Reason.DUPLICATE_HEADER, f"{name[:64]} was sent twice")
                events[lower] = value
        if size > MAX_HEADER_BYTES:
            raise Rejected(Reason.HEADERS_TOO_LARGE, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        for name in SINGLE:
            if len(headers.get_list(name)) > 1:
                raise Rejected(Reason.DUPLICATE_HEADER, f"{name} was sent twice")
        self._gate.check_token(headers, query)
        self._events = events
        self._type = headers.get("Content-Type", "")
        self._encoding = headers.get("Content-Encoding", "")
        length = headers.get("Content-Length", "")
        if length.isdigit() and int(length) > self._gate.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> Rejected:
        return Rejected(Reason.BODY_TOO_LARGE, f"the body is larger than {self._gate.max_body_bytes} bytes")

    def data_received(self, chunk: bytes) -> None:
        # What is refused is still read, and thrown away: a sender that is cut off while sending never sees the answer.
        # What no event route takes is thrown away too: none of the other routes has a body.
        if self._inner is not None or self._error is not None or self._full:
            return
        self._length += len(chunk)
        self._gate.receiving_bytes += len(chunk)
        self._body.append(chunk)
        if self._length > self._gate.max_body_bytes:
            self._error = self._too_large()
            self._release()
        elif self._gate.receiving_bytes > self._gate.max_bodies_bytes:
            self._full = True
            self._release()

    def _release(self) -> None:
        self._gate.receiving_bytes -= self._length
        self._length = 0
        self._body = []

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()
            return
        ingest = self._gate.ingest
        if self._error is not None:
            ingest.refuse(self._error, self._answer)
        elif self._full:
            ingest.turn_away("too many bodies are being received, the limit of --max_bodies_bytes", self._answer)
        else:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = []
            ingest.take(self._type, self._encoding, self._events, body, self._answer)

    def _answer(self, answer: Answer) -> None:
        """Writes the answer, unless the sender has gone; what it sent counts all the same."""
        self._gate.open_requests -= 1
        self._release()
        if self._closed:
            return
        headers = HTTPHeaders({"Content-Length": str(len(answer.body)), **answer.headers})
        if self._gate.draining or not self._keep_alive:
            headers["Connection"] = "close"
        try:
            self._connection.write_headers(ResponseStartLine("HTTP/1.1", answer.status, responses[answer.status]), headers, answer.body or None)
            self._connection.finish()
        except StreamClosedError:
            pass

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()
            return
        if not self._closed:
            self._closed = True
            self._release()


def _keeps_alive(start_line: RequestStartLine, headers: HTTPHeaders) -> bool:
    return start_line.version != "HTTP/1.0" and headers.get("Connection", "").lower() != "close"
