"""One HTTP request and its answer, for whoever takes it: our own event route, or Tornado's Application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any, Protocol

from tornado.concurrent import Future
from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine

from metrics_server.errors import Rejected
from metrics_server.http.certificate import ClientNames

# What browsers are told of every answer: to take it for what it says it is, to tell nobody where they come from, and to
# show it on pages of this server alone.
_FOR_BROWSERS = (
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin"
)
POLICY = "Content-Security-Policy"
_STRICT_POLICY = f"{POLICY}: default-src 'none'; frame-ancestors 'none'"  # of what is no page

# In an empty answer there is nothing to be shown, framed or followed; most events get it, so it is made once.
_EMPTY_200 = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Content-Type-Options: nosniff\r\n\r\n"

LARGE_BYTES = 64 * 2**10  # a body beyond this is not copied behind its head, but sent by itself

RawHeaders = list[tuple[bytes, bytes]]


class Receiver(Protocol):
    """Takes one request, as Tornado's HTTPMessageDelegate does."""

    def data_received(self, chunk: bytes) -> Any: ...
    def finish(self) -> Any: ...
    def on_connection_close(self) -> Any: ...


class _NullReceiver:
    """Takes a request that nobody waits for."""

    def data_received(self, chunk: bytes) -> None: ...
    def finish(self) -> None: ...
    def on_connection_close(self) -> None: ...


NULL_RECEIVER = _NullReceiver()


class ConnectionPort(Protocol):
    """The connection an exchange belongs to, as far as it cares."""

    context: Context

    @property
    def is_draining(self) -> bool: ...
    def answered(self) -> None: ...


@dataclass(frozen=True)
class Context:
    """What Tornado wants to know of a connection, and who is at its other end."""

    remote_ip: str
    protocol: str
    client_names: ClientNames = None


class Exchange(HTTPConnection):
    """One request and its answer. Finished ones leave in the order the requests came, as HTTP/1.1 wants it."""

    def __init__(
        self,
        connection: ConnectionPort,
        method: str,
        target: str,
        version: str,
        headers: RawHeaders,
        *,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.context = connection.context
        self.head_bytes = self.body_bytes = 0
        self.refusal: Rejected | None = None  # why it will be refused when it is complete
        self.received = False  # the request is complete
        self.is_awaited = False  # more of it is to come in another packet
        self.dispatched = False  # and its receiver has been told so
        self.answer: bytes | None = None
        self.large_body = b""  # what follows the answer
        self.receiver: Receiver = NULL_RECEIVER
        self._connection = connection
        self._parts: list[bytes] = []
        self._on_loss: Callable[[], None] | None = None

    @property
    def expects_continue(self) -> bool:
        """Tells whether the sender waits for our word before it sends the body."""
        return any(name.lower() == b"expect" for name, _ in self.headers)

    def start_line(self) -> RequestStartLine:
        return RequestStartLine(self.method, self.target, f"HTTP/{self.version}")

    def tornado_headers(self) -> HTTPHeaders:
        """The headers, but for those about a body: the Application is never given one."""
        headers = HTTPHeaders()
        for name, value in self.headers:
            if name.lower() in (b"content-type", b"content-encoding"):
                continue
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        return headers

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answers with a whole response."""
        if self.answer is None:
            if status == 200 and not headers and not body and self._is_plain():
                self.answer = _EMPTY_200
            else:
                self.answer = self._whole(status, headers.items(), body)
            self._connection.answered()

    def _is_plain(self) -> bool:
        """Tells whether the answer needs no word on what becomes of the connection."""
        return self.keep_alive and self.received and self.version == "1.1" and not self._connection.is_draining

    def _whole(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
        """The bytes of a response, with the headers that frame it and that all have; a large body is set aside."""
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}", _FOR_BROWSERS]
        framed = has_policy = False
        for name, value in headers:
            lines.append(f"{name}: {value}")
            framed = framed or name.lower() == "content-length"
            has_policy = has_policy or name == POLICY
        if not has_policy:
            lines.append(_STRICT_POLICY)
        if not framed and status not in (204, 304):
            lines.append(f"Content-Length: {len(body)}")
        if not self.keep_alive or not self.received or self._connection.is_draining:
            self.keep_alive = False
            lines.append("Connection: close")
        elif self.version == "1.0":
            lines.append("Connection: keep-alive")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if len(body) <= LARGE_BYTES:
            return head + body
        self.large_body = body
        return head

    def lose(self) -> None:
        """Tells who works on the answer that it will never be sent."""
        self.receiver.on_connection_close()
        if self._on_loss is not None:
            self._on_loss()

    # Tornado's HTTPConnection.

    def write_headers(self, start_line: Any, headers: HTTPHeaders, chunk: bytes | None = None) -> Future[None]:
        assert isinstance(start_line, ResponseStartLine)
        self._status, self._headers = start_line.code, list(headers.get_all())
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> Future[None]:
        self._parts.append(chunk)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def finish(self) -> None:
        if self.answer is None:
            self.answer = self._whole(self._status, self._headers, b"".join(self._parts))
            self._parts = []
            self._connection.answered()

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        self._on_loss = callback
