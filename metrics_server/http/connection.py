"""HTTP/1.1 connections: bytes to requests and answers back, in order, within limits of size and time.

Tornado's own connection takes 140 µs of Python for a request with the dozen headers of a CloudEvent, more than
everything else that happens to an event; llhttp in C, by httptools, on uvloop's transports takes 13. So the parsing is
theirs, and here is only
what a server adds: order, limits, timeouts, keep-alive. Requests other than events go to the ordinary Tornado
Application, for which an `Exchange` is the `HTTPConnection` it expects. Answers are made whole; nothing is streamed,
but a large one is handed to the transport in portions, as fast as its client reads.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Protocol, cast

import httptools

from metrics_server.errors import Reason, Rejected
from metrics_server.http.certificate import names_in
from metrics_server.http.exchange import NULL_RECEIVER, Context, Exchange, RawHeaders, Receiver
from metrics_server.http.response import error_response
from metrics_server.http.slow_readers import SlowReaders

logger = logging.getLogger(__name__)

HEAD_BYTES = 64 * 2**10  # of request line and headers; the routes have lower limits, with better answers
IDLE_SECONDS = 120.0  # for the next request, or the rest of its headers; Go's clients keep connections for 90 s
BODY_SECONDS = 10.0  # for a whole body
HANDSHAKE_SECONDS = 10.0  # for TLS, from the accept on
STALL_SECONDS = 30.0  # for a client to read a portion of its answer
PORTION_BYTES = 64 * 2**10  # that the transport is given at once, and buffers at most
SWEEP_SECONDS = 1.0

# Every spelling of Host: to look a name up is cheaper than to lower the case of each.
_HOST_NAMES = frozenset("".join(letters).encode() for letters in product(*((c, c.upper()) for c in "host")))
# RFC 9112 3.2: Host = uri-host [ ":" port ]; RFC 3986 3.2.2 says what a uri-host is. It may be empty.
_HOST_VALUE = re.compile(rb"(?:\[(?:[\w.~!$&'()*+,;=:-]|%25)+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::\d*)?")

# RFC 9110 4.2.3: a scheme has no case; RFC 9112 3.2.2: behind the authority a path, or at once a query.
_SCHEME_AND_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)

Route = Callable[[Exchange], Receiver]


class Connection(asyncio.Protocol):
    """One client. Reads on while answers are computed, writes them in order, holds no more than a few requests."""

    def __init__(self, server: HttpServer, handshake: Guest | None = None) -> None:
        """Takes the place that its handshake has, if there was one."""
        self._server = server
        self._handshake = handshake
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._method = self._target = b""
        self._headers: RawHeaders = []
        self._hosts: list[bytes] = []
        self._codings: list[bytes] = []
        self._valid_host: bytes | None = None  # the last one; a client says the same in each request
        self._unframed_bytes = 0
        self._can_write = True
        self._body = b""  # of the answer that is being sent, shared with others who read the same
        self._unsent = memoryview(b"")  # what the transport was not given yet
        self._closing = False  # nothing more is read
        self._delivering = False
        self._is_paused = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are, but do not say so
        peer = transport.get_extra_info("peername")
        secure = transport.get_extra_info("sslcontext") is not None
        names = names_in(transport.get_extra_info("peercert"))
        self.context = Context(str(peer[0]) if peer else "", "https" if secure else "http", names)
        self._transport.set_write_buffer_limits(PORTION_BYTES)  # TLS would encrypt half a megabyte ahead
        self.deadline: float | None = self._server.now() + IDLE_SECONDS
        if not self._server.admit(self, self._handshake):
            self._transport.abort()
        self._handshake = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._unframed_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(Reason.MALFORMED_HTTP, "not a valid HTTP/1.1 request")
        if (reading := self._reading) is not None and not reading.is_awaited:  # its headers are here, its body is not
            reading.is_awaited = True
            if reading.answer is None and reading.expects_continue:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What is no body: the head, trailers, and what frames chunks. The parser would keep an endless header for us.
        if self._unframed_bytes > HEAD_BYTES + (8 * self._reading.body_bytes if self._reading is not None else 0):
            self._refuse(Reason.HEADERS_TOO_LARGE, f"request line and headers are larger than {HEAD_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        """Gives bytes to the parser, which stops behind every request that offers another protocol."""
        rest = memoryview(data)
        while not self._closing:
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                self._decline_upgrade(len(rest))
            else:
                return

    def _decline_upgrade(self, rest_bytes: int) -> None:
        """Reads the request again without its offer of another protocol, which makes the parser skip the body."""
        if self._method == b"CONNECT":  # is nothing else, whatever its headers say
            self._refuse(Reason.MALFORMED_HTTP, "CONNECT is not offered")
            return
        dropped = (b"upgrade", b"connection", b"http2-settings")
        kept = [(name, value) for name, value in self._headers if name.lower() not in dropped]
        if any(name.lower() == b"connection" and b"close" in value.lower() for name, value in self._headers):
            kept.append((b"Connection", b"close"))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in kept)
        version = self._parser.get_http_version().encode()
        head = self._method + b" " + self._target + b" HTTP/" + version + b"\r\n" + lines + b"\r\n"
        self._parser = httptools.HttpRequestParser(self)
        self._unframed_bytes = len(head) + rest_bytes
        self._parser.feed_data(head)

    def eof_received(self) -> bool:
        if self._reading is not None:  # the rest of its body will never come
            return False
        self._closing = True
        return bool(self._exchanges or self._unsent)  # who has only ended its own side still gets its answers

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._server.forget(self)
        self._server.slow_readers.remove(self)
        self._body, self._unsent = b"", memoryview(b"")
        self._drop()

    def _drop(self) -> None:
        """Lets go of the requests that will never be answered."""
        for exchange in self._exchanges:
            exchange.lose()
        self._exchanges.clear()

    def pause_writing(self) -> None:
        self._can_write = False
        self.deadline = self._server.now() + STALL_SECONDS
        self._server.slow_readers.add(self, self._body)

    def resume_writing(self) -> None:
        self._can_write = True
        self.deadline = None if self._reading is None else self._server.now() + BODY_SECONDS
        self._server.slow_readers.remove(self)
        self._send_on()
        self._deliver()

    # httptools' callbacks, in the order of a message

    def on_message_begin(self) -> None:
        self._target, self._headers, self._hosts, self._codings = b"", [], [], []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")  # RFC 9112 5.1: what surrounds a value is no part of it; llhttp leaves the end
        self._headers.append((name, value))
        if len(name) == 4 and name in _HOST_NAMES:
            self._hosts.append(value)
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            self._codings.append(value)

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._method = parser.get_method()
        if parser.should_upgrade():
            return
        exchange = Exchange(
            self,
            self._method.decode("latin-1"),
            _origin_form(self._target.decode("latin-1")),
            parser.get_http_version(),
            self._headers,
            keep_alive=parser.should_keep_alive(),
        )
        exchange.head_bytes = sum([len(name) + len(value) + 4 for name, value in self._headers]) + len(self._target)
        self._headers = []  # what still comes are trailers, which are no headers (RFC 9110 6.5.1)
        if self._can_write:  # else the deadline is that of a client which does not read
            self.deadline = self._server.now() + BODY_SECONDS
        self._reading = exchange
        self._exchanges.append(exchange)
        if exchange.head_bytes > HEAD_BYTES:
            self._refuse(Reason.HEADERS_TOO_LARGE, f"request line and headers are larger than {HEAD_BYTES} bytes")
        elif self._has_valid_host(exchange) and self._is_framed_for_all(exchange.version):
            exchange.receiver = self._server.route(exchange)

    def _has_valid_host(self, exchange: Exchange) -> bool:
        """Tells whether the request names its host as RFC 9112 3.2 wants it; refuses it otherwise."""
        hosts = self._hosts
        if len(hosts) == 1 and hosts[0] == self._valid_host:
            return True
        if len(hosts) > 1:
            self._refuse(Reason.DUPLICATE_HEADER, "host was sent twice")
        elif not hosts and exchange.version != "1.0":
            self._refuse(Reason.MALFORMED_HTTP, "a request of HTTP/1.1 needs the header Host")
        elif hosts and not _HOST_VALUE.fullmatch(hosts[0]):
            self._refuse(Reason.MALFORMED_HTTP, "the header Host is not a host with at most a port")
        else:
            self._valid_host = hosts[0] if hosts else None
            return True
        return False

    def _is_framed_for_all(self, version: str) -> bool:
        """Tells whether everybody on the request's way agrees where it ends; refuses it otherwise.

        The parser takes any version, and in any of them a body whose last coding is `chunked`. RFC 9112 6.1 calls the
        framing of one in HTTP/1.0 faulty, and of `gzip, chunked` the first coding would not be undone.
        """
        if version not in ("1.0", "1.1"):
            self._refuse(Reason.MALFORMED_HTTP, "only HTTP/1.1 and HTTP/1.0 are spoken")
        elif self._codings and (version == "1.0" or [one.strip().lower() for one in self._codings] != [b"chunked"]):
            self._refuse(Reason.MALFORMED_HTTP, "the only Transfer-Encoding is chunked, in HTTP/1.1")
        else:
            return True
        return False

    def on_body(self, chunk: bytes) -> None:
        self._unframed_bytes -= len(chunk)
        if self._reading is not None and not self._closing:
            self._reading.body_bytes += len(chunk)
            self._reading.receiver.data_received(chunk)

    def on_message_complete(self) -> None:
        if self._reading is None:  # an offer to upgrade; it is read again
            return
        self._unframed_bytes = 0
        self._reading.received = True
        self._reading = None
        if self._can_write:
            self.deadline = None
        self._deliver()

    # order

    def answered(self) -> None:
        """An exchange has its answer."""
        self._deliver()

    @property
    def is_draining(self) -> bool:
        return self._server.is_draining

    def _deliver(self) -> None:
        """Sends what can be sent: the first exchange's answer; then the next one is given to its receiver."""
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._exchanges and self._can_write and not self._transport.is_closing() and self._deliver_first():
                pass
        finally:
            self._delivering = False
        if not self._exchanges:
            if self._closing and not self._unsent:
                self._transport.close()
            if self._can_write:
                self.deadline = self._server.now() + IDLE_SECONDS
        # A client that sends on without waiting is not read until its earlier requests have their answers.
        if self._is_paused != (len(self._exchanges) > 1) and not self._transport.is_closing():
            self._is_paused = not self._is_paused
            if self._reading is not None and self._can_write:  # its time does not run while we do not read
                self.deadline = None if self._is_paused else self._server.now() + BODY_SECONDS
            (self._transport.pause_reading if self._is_paused else self._transport.resume_reading)()

    def _deliver_first(self) -> bool:
        """Sends the answer of the first exchange, if it has one by now."""
        exchange = self._exchanges[0]
        if exchange.answer is None and exchange.received and not exchange.dispatched:
            exchange.dispatched = True
            _finish(exchange)
        if exchange.answer is None:
            return False
        self._exchanges.popleft()
        exchange.receiver = NULL_RECEIVER  # they hold each other; let go, or the garbage collector has to find them
        self._transport.write(exchange.answer)
        if exchange.large_body:
            self._send(exchange)
        if not exchange.keep_alive:  # what was sent behind it is not looked at; it closes when the answer has left
            self._closing = True
            self._drop()
        return True

    def _send(self, exchange: Exchange) -> None:
        """Begins to send a large body."""
        self._body = self._server.slow_readers.shared(exchange.large_body)
        exchange.large_body = b""
        self._unsent = memoryview(self._body)
        self._send_on()

    def _send_on(self) -> None:
        """Gives the transport what it takes of a large body. While the client does not read that is next to nothing."""
        while self._unsent and self._can_write:
            portion, self._unsent = self._unsent[:PORTION_BYTES], self._unsent[PORTION_BYTES:]
            self._transport.write(portion)
        if self._can_write:
            self._body = b""

    def _refuse(self, reason: Reason, detail: str) -> None:
        """Ends the connection over something that is no request, or will never be a whole one."""
        if self._closing:
            return
        self._closing = True
        exchange = self._reading
        if exchange is None:
            exchange = Exchange(self, "", "", "1.1", [], keep_alive=False)
            self._exchanges.append(exchange)
        exchange.receiver.on_connection_close()  # it gets no more, and gives back what it holds
        self._server.refused(exchange, exchange.refusal or Rejected(reason, detail))

    def expire(self) -> None:
        """The deadline has passed: a half-sent request is told so, an idle connection is closed."""
        self.deadline = None
        if self._reading is not None and self._can_write and not self._closing:
            self._refuse(Reason.BODY_TIMEOUT, f"the body took longer than {BODY_SECONDS:g} s")
        elif self._can_write:
            self._transport.abort()
        else:
            self._server.slow_readers.cut(self)

    def cut(self) -> None:
        """Ends the connection in the middle of an answer."""
        self._transport.abort()

    def wind_up(self) -> None:
        """Closes a connection that is idle, or whose client does not read what it was answered."""
        if not self._can_write:
            self._transport.abort()
        elif not self._exchanges:
            self._transport.close()


def _finish(exchange: Exchange) -> None:
    """Tells the receiver that the request is complete; a fault of ours in what follows is answered too."""
    try:
        exchange.receiver.finish()
    except Exception:
        logger.exception("A request could not be handled")
        exchange.receiver.on_connection_close()  # gives back what it holds
        exchange.respond(*error_response(500, "internal", "Internal Server Error"))


def _origin_form(target: str) -> str:
    """The path and query of a request target; a client of a proxy writes the whole address, which every server must
    accept.

    >>> _origin_form("HTTP://host:80?window=1h")
    '/?window=1h'
    """
    if target.startswith("/") or (authority := _SCHEME_AND_AUTHORITY.match(target)) is None:
        return target
    rest = target[authority.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


class Guest(Protocol):
    """What takes a place of --max_connections."""

    @property
    def deadline(self) -> float | None: ...
    def expire(self) -> None: ...
    def wind_up(self) -> None: ...


class Handshake(asyncio.Protocol):
    """One client over TLS, from its accept to the end of its handshake: it takes a place before it has said anything.

    A listener that is given the certificate itself tells of a connection only when its handshake is done, so any number
    of clients could connect, say nothing and hold a file each.
    """

    def __init__(self, server: HttpServer, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        self.deadline: float | None = loop.time() + HANDSHAKE_SECONDS
        if self._server.admit(self):
            accepted = transport.get_extra_info("socket").dup()  # another transport is made of it
            self._shaking = loop.create_task(self._shake_hands(accepted))
        cast("asyncio.Transport", transport).abort()

    async def _shake_hands(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(Connection, self._server, self), accepted, ssl=self._context
            )
        except OSError:  # the client has gone, or speaks no TLS that we do
            return
        finally:
            self._server.forget(self)

    def expire(self) -> None:
        """Ends a handshake that takes too long."""
        self._shaking.cancel()

    wind_up = expire


class HttpServer:
    """Listens, keeps the connections, and ends those that take too long."""

    def __init__(
        self,
        route: Route,
        refused: Callable[[Exchange, Rejected], None],
        crowded: Callable[[], None],
        cut: Callable[[], None],
        max_connections: int,
    ) -> None:
        self.route = route
        self.refused = refused
        self._crowded = crowded
        self.slow_readers = SlowReaders(cut)
        self.is_draining = False
        self._max_connections = max_connections
        self._connections: set[Guest] = set()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._listener: asyncio.Server | None = None
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._expire)

    async def listen(
        self, host: str, port: int, context: Callable[[], ssl.SSLContext] | None, *, is_shared: bool = False
    ) -> None:
        """Starts to listen, on a port that others may share; raises OSError when the address cannot be had. `context`
        tells the certificates for each new connection; None for none.
        """
        greet = (lambda: Connection(self)) if context is None else (lambda: Handshake(self, context()))
        self._listener = await self._loop.create_server(greet, host, port, backlog=1024, reuse_port=is_shared)

    def admit(self, connection: Guest, instead_of: Guest | None = None) -> bool:
        """Tells whether there is room for one more connection, or for one in the place of another."""
        if instead_of is not None:
            self.forget(instead_of)
        if len(self._connections) >= self._max_connections:
            self._crowded()
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Guest) -> None:
        self._connections.discard(connection)

    def _expire(self) -> None:
        now = self.now()
        for connection in [c for c in self._connections if c.deadline is not None and c.deadline < now]:
            connection.expire()
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._expire)

    def drain(self) -> None:
        """Takes no new connections, closes idle ones; the others are closed with their next answer."""
        self.is_draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.wind_up()

    def close(self) -> None:
        """Ends what is left."""
        self._sweep.cancel()
        for connection in list(self._connections):
            connection.expire()
