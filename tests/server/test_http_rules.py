"""Rules of HTTP that a server must keep whatever a client sends: Host, Upgrade, lengths, handshakes, and faults of
ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import uvloop
from tornado.web import Application

from metrics_server.http import connection
from metrics_server.http.application import ApplicationRequest
from metrics_server.http.connection import HttpServer
from metrics_server.http.handler import Handler
from tests.conftest import Serve
from tests.support.raw_http import NONE, Answer, Client, Served, request, serving
from tests.support.running import free_port, peer

PAIR = json.dumps({"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["cat"]}}}).encode()
MAX_BODY = 100_000
UPGRADES = 2000


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving("--max_body_bytes", str(MAX_BODY)) as served:
        yield served


# Host, RFC 9112 3.2


def _get(*hosts: str, version: str = "1.1") -> bytes:
    lines = [f"GET /healthz HTTP/{version}", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _post(*hosts: str) -> bytes:
    lines = ["POST / HTTP/1.1", *(f"Host: {host}" for host in hosts), f"Content-Length: {len(PAIR)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + PAIR


@pytest.mark.parametrize("data", [_get(), _post()], ids=["get", "post"])
def test_http_1_1_without_host_is_refused(server: Served, data: bytes) -> None:
    """A request of HTTP/1.1 has to name its host: without it is 400, the connection ends, and no event counts."""
    before = server.page()
    with Client(server.port) as client:
        client.send(data)
        answer = client.answer()
        assert (answer.status, answer.reason, answer.headers["connection"]) == (400, "malformed_http", "close")
        assert client.is_closed()
    after = server.page()
    assert after.models == before.models
    assert after.rejected["malformed_http"] - before.rejected.get("malformed_http", 0.0) == 1


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("hosts", [("one", "two"), ("same", "same")])
def test_two_hosts_are_refused(server: Served, version: str, hosts: tuple[str, str]) -> None:
    """Two Host lines are 400 in any version, also when they agree: who forwards it may have believed the other one."""
    answer = server.ask(_get(*hosts, version=version))
    assert (answer.status, answer.reason) == (400, "duplicate_header")


def test_host_in_any_spelling_is_host(server: Served) -> None:
    """Names of headers have no case: two that differ in it are two, and each alone is enough."""
    spelled = b"GET /healthz HTTP/1.1\r\nhOsT: a\r\nConnection: close\r\n"
    assert server.ask(spelled + b"\r\n").status == 200
    assert server.ask(spelled + b"HOST: a\r\n\r\n").reason == "duplicate_header"


@pytest.mark.parametrize("host", ["a b", "a/b", "user@a", "a:port", "[::1", "a%zz", "a,b:c", "bücher.example", "<a>"])
def test_an_invalid_host_is_refused(server: Served, host: str) -> None:
    """What is no host with at most a port is 400."""
    answer = server.ask(_get(host))
    assert (answer.status, answer.reason) == (400, "malformed_http")


@pytest.mark.parametrize(
    "host", ["", "a", "a.b-c_d:8080", "127.0.0.1:80", "[::1]:8080", "[fe80::1%25eth0]", "a%20b", "a:", "A.EXAMPLE."]
)
def test_a_valid_host_is_taken(server: Served, host: str) -> None:
    """Names, addresses, ports, and the empty value that a target without authority has, are fine."""
    assert server.ask(_get(host)).status == 200


def test_blanks_behind_a_value_are_no_part_of_it(server: Served) -> None:
    """What surrounds the value of a header does not count (RFC 9112 5.1): the host is valid, the event a repeat."""
    binary = ("Ce-Specversion: 1.0", "Ce-Type: io.seldon.serving.feedback", "Ce-Source: /blank")
    before = server.page().outcomes
    for event_id in ("blank", "blank \t "):
        lines = (*binary, f"Ce-Id: {event_id}", "Ce-Requestid: blank", "Content-Type: application/json \t")
        assert server.ask(request("/", PAIR, *lines).replace(b"Host: test", b"Host: test ")).status == 200
    after = server.page().outcomes
    grown = {name: after[name] - before.get(name, 0.0) for name in ("accepted", "duplicate")}
    assert grown == {"accepted": 1.0, "duplicate": 1.0}


def test_http_1_0_needs_no_host(server: Served) -> None:
    """HTTP/1.0 had no Host: probes that speak it are answered."""
    assert server.ask(_get(version="1.0")).body == b"ok"


def test_a_host_is_asked_for_in_every_request_of_a_connection(server: Served) -> None:
    """That the first request of a connection named its host says nothing about the next ones."""
    keep = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with Client(server.port) as client:
        client.send(keep * 2 + _get() + keep)
        assert [client.answer().status for _ in range(3)] == [200, 200, 400]
        assert client.is_closed()


# Upgrade


def _resident(process_id: int) -> float:
    """Megabytes at most since it began."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_thousands_of_offers_to_upgrade_are_declined() -> None:
    """Of 2,000 requests at once, each of which offers another protocol, all are answered, in next to no memory."""
    offer = request("/protocol", b"", "Connection: Upgrade", "Upgrade: h2c", method="GET", close=False)
    with serving() as server, Client(server.port, timeout=20) as client:
        before = _resident(server.process.pid)
        sender = threading.Thread(target=client.send, args=(offer * UPGRADES,))
        sender.start()
        statuses = [client.answer().status for _ in range(UPGRADES)]
        sender.join()
        assert statuses == [200] * UPGRADES
        assert _resident(server.process.pid) - before < 30


def test_events_that_offer_an_upgrade_keep_their_bodies_and_their_order(server: Served) -> None:
    """Requests with and without the offer and with bodies follow each other on one connection; every event counts."""
    before = server.page().outcomes.get("accepted", 0.0)
    offer = request("/", PAIR, "Connection: Upgrade", "Upgrade: h2c", close=False)
    plain = request("/protocol", b"", method="GET", close=False)
    with Client(server.port) as client:
        client.send((offer + plain) * 20)
        assert [client.answer().body for _ in range(40)] == [b"", b"seldonfeedback.http"] * 20
    assert server.page().outcomes["accepted"] - before == 20


# lengths


def test_a_length_far_above_the_limit_is_413_at_once(server: Served) -> None:
    """A body that would never be read to its end is refused by its length, before any of it comes."""
    started = time.monotonic()
    with Client(server.port, timeout=20) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (17 * MAX_BODY))
        answer = client.answer()
        assert (answer.status, answer.reason, answer.headers["connection"]) == (413, "body_too_large", "close")
        assert client.is_closed()
    assert time.monotonic() - started < connection.BODY_SECONDS / 2


# handshakes


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for this host, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    files = str(directory / "cert.pem"), str(directory / "key.pem")
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run([peer("openssl"), *words], check=True, capture_output=True)
    return files


def _over_tls(port: int, certificate: str, data: bytes) -> bytes:
    """All that comes back for these bytes on a TLS connection of their own; nothing when it is refused."""
    context = ssl.create_default_context(cafile=certificate)
    with contextlib.suppress(ConnectionError), contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        client = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        client.sendall(data)
        return b"".join(iter(partial(client.recv, 65536), b""))
    return b""


def _open(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        return bool(client.recv(1))
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_handshakes_count_as_connections(serve: Serve, certificate: tuple[str, str]) -> None:
    """Whoever connects and never shakes hands takes a place of --max_connections, no more than those are kept, and
    a place is free again as soon as one goes."""
    files = ("--tls_cert", certificate[0], "--tls_key", certificate[1])
    server = serve("--store", "memory://", "--max_connections", "5", *files, scheme="https")
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        clients = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(50)]
        kept = [client for client in clients if _open(client)]
        assert len(kept) <= 5
        kept[0].sendall(b"GET / HTTP/1.0\r\n\r\n")  # no handshake: this one is over
        kept[1].close()
        deadline = time.monotonic() + 5
        while not (answer := _over_tls(server.port, certificate[0], _get("a"))) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answer.endswith(b"ok")
    scraped = _over_tls(server.port, certificate[0], request("/metrics", method="GET"))
    assert b"metrics_server_refused_connections_total 4" in scraped
    server.stop()
    assert "Traceback" not in server.log.read_text()


def test_a_request_right_behind_the_handshake_is_answered(serve: Serve, certificate: tuple[str, str]) -> None:
    """Clients write their request in the packet that ends the handshake; none of it is lost."""
    files = ("--tls_cert", certificate[0], "--tls_key", certificate[1])
    server = serve("--store", "memory://", *files, scheme="https")
    for number in range(50):
        data = request("/", PAIR) if number % 2 else _get("a")
        assert _over_tls(server.port, certificate[0], data).startswith(b"HTTP/1.1 200 OK")


# faults of ours


class _Fine(Handler):
    def get(self) -> None:
        self.finish("ok")


class _Misused(Handler):
    def initialize(self, wanted: object) -> None:
        """Is not given what it wants."""

    def get(self) -> None:
        raise AssertionError


class _Alone:
    """An `HttpServer` before a Tornado Application, in a thread of this process."""

    def __init__(self, application: Application, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self._application = application
        self._context = context
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))

    def __enter__(self) -> _Alone:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *unused: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = HttpServer(
            partial(ApplicationRequest, self._application),
            refused=lambda exchange, error: exchange.respond(400, {}, b""),
            crowded=lambda: None,
            cut=lambda: None,
            max_connections=10,
        )
        context = self._context
        await server.listen("127.0.0.1", self.port, None if context is None else lambda: context)
        self._ready.set()
        await self._stop.wait()
        server.drain()
        server.close()


@pytest.mark.parametrize("before", [b"", _get("a").replace(b"Connection: close\r\n", b"")], ids=["alone", "pipelined"])
def test_a_handler_that_cannot_be_made_is_told_and_logged(before: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A fault in the making of a handler is answered 500 in our one shape, logged with its place, and the connection
    goes on."""
    routes = [("/misused", _Misused), ("/healthz", _Fine)]
    with caplog.at_level(logging.ERROR), _Alone(Application(routes)) as alone, Client(alone.port) as client:
        client.send(before + request("/misused", method="GET", close=False))
        answers: list[Answer] = [client.answer() for _ in range(2 if before else 1)]
        assert (answers[-1].status, answers[-1].reason) == (500, "internal")
        client.send(_get("a"))
        assert client.answer().body == b"ok"
        assert client.answer() == NONE
    assert "initialize() missing 1 required positional argument" in caplog.text


def test_a_handshake_has_its_time(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and does not shake hands in time is cut off."""
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr(connection, "SWEEP_SECONDS", 0.05)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with _Alone(Application([("/healthz", _Fine)]), context) as alone:
        with Client(alone.port) as client:
            client.send(b"\x16\x03\x01")  # so far the beginning of a handshake
            assert client.is_closed()
        assert _over_tls(alone.port, certificate[0], _get("a")).endswith(b"ok")
