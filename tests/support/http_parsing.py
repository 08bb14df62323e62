"""What a byte stream of HTTP/1.1 says, by our connection without a socket, and by h11."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

import h11

from metrics_server.errors import Rejected
from metrics_server.http.connection import HEAD_BYTES, Connection, HttpServer
from metrics_server.http.exchange import Exchange


class Request(NamedTuple):
    """What must be the same, whoever reads it."""

    method: bytes
    target: bytes
    body: bytes


class Reading(NamedTuple):
    """The whole requests of a stream, and whether it was refused or left unfinished behind them."""

    requests: list[Request]
    is_refused: bool


class _Wire(asyncio.Transport):
    """Takes what is written, and tells nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    abort = close


class _Collector:
    """A receiver that keeps the body, and answers when it is there."""

    def __init__(self, exchange: Exchange, requests: list[Request]) -> None:
        self._exchange = exchange
        self._requests = requests
        self._body = b""

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk

    def finish(self) -> None:
        exchange = self._exchange
        self._requests.append(Request(exchange.method.encode(), exchange.target.encode("latin-1"), self._body))
        exchange.respond(200, {}, b"")

    def on_connection_close(self) -> None: ...


class _Watched(Connection):
    """A connection that tells whether it is within a request."""

    is_within_request = False

    def on_message_begin(self) -> None:
        self.is_within_request = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self.is_within_request = False
        super().on_message_complete()


class OwnReader:
    """Reads streams by `Connection`, one server for all of them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._requests: list[Request] = []
        self._refusals: list[Rejected] = []
        self._server = self._loop.run_until_complete(self._made())

    async def _made(self) -> HttpServer:
        return HttpServer(
            lambda exchange: _Collector(exchange, self._requests),
            refused=self._refuse,
            crowded=lambda: None,
            cut=lambda: None,
            max_connections=10,
        )

    def _refuse(self, exchange: Exchange, error: Rejected) -> None:
        self._refusals.append(error)
        exchange.respond(error.reason.status, {}, b"")

    def read(self, packets: list[bytes]) -> Reading:
        """Reads a connection to its end; what stays unfinished is refused."""
        self._requests, self._refusals = [], []
        connection, wire = _Watched(self._server), _Wire()
        connection.connection_made(wire)
        for packet in packets:
            connection.data_received(packet)
        connection.eof_received()
        is_unfinished = connection.is_within_request and not wire.is_closing()
        connection.connection_lost(None)
        return Reading(self._requests, bool(self._refusals) or is_unfinished)

    def close(self) -> None:
        self._server.close()
        self._loop.close()


def read_by_h11(stream: bytes) -> tuple[Reading, list[bytes]]:
    """The same by h11, with what it had not read yet before each request and after the last."""
    requests: list[Request] = []
    rests = [stream]
    oracle = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    oracle.receive_data(stream)
    oracle.receive_data(b"")
    try:
        while oracle.our_state is not h11.MUST_CLOSE and (request := _next_request(oracle)) is not None:
            requests.append(request)
            rests.append(oracle.trailing_data[0])
            _answer(oracle)
    except h11.RemoteProtocolError:
        return Reading(requests, is_refused=True), rests
    return Reading(requests, is_refused=False), rests


def _next_request(oracle: h11.Connection) -> Request | None:
    """The next whole request; None at the end of the stream."""
    head, body = None, b""
    while True:
        match oracle.next_event():
            case h11.Request() as head:
                pass
            case h11.Data() as data:
                body += data.data
            case h11.EndOfMessage():
                assert head is not None
                return Request(head.method, _path_of(head.target), body)
            case _:
                return None


def _answer(oracle: h11.Connection) -> None:
    # 200 would agree to a CONNECT.
    oracle.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    oracle.send(h11.EndOfMessage())
    if oracle.our_state is h11.DONE:
        oracle.start_next_cycle()


def _path_of(target: bytes) -> bytes:
    """The origin form of a target (RFC 9112 3.2.1): an absolute one without its authority, and "/" for no path."""
    if not (absolute := re.fullmatch(rb"https?://[^/?#]*(/?)(.*)", target, re.IGNORECASE)):
        return target
    return (absolute[1] or b"/") + absolute[2]
