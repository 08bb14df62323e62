"""HTTP over raw sockets: order, keep-alive, limits of time and number, and clients that do not behave."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
from collections.abc import Iterator

import pytest

from metrics_server.http import connection
from tests.support.inside import Inside
from tests.support.raw_http import NONE, Client, Served, chunked, request, serving
from tests.support.running import FEEDBACK

GOOD = {"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["cat"]}}}
CONTENT = json.dumps(GOOD).encode()
HALF_BODY = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n" + b" " * 50_000
HALF_HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nConte"
BAD_CHUNK = (
    b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n" + b" " * 50_000 + b"\r\nsize\r\n"
)
PATHS = ("/", "/v1/metrics", "/metrics", "/v1/rejected", "/healthz", "/readyz", "/protocol")


def get(path: str, *headers: str, close: bool = False) -> bytes:
    return request(path, b"", *headers, method="GET", close=close)


def post(body: object = GOOD, *headers: str, close: bool = False) -> bytes:
    return request("/", body, *headers, close=close)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


def accepted(server: Served) -> float:
    return server.page().outcomes.get("accepted", 0.0)


# order and keep-alive


def test_pipelined_requests_are_answered_in_order(server: Served) -> None:
    """Requests sent at once are answered in their order, quick ones not before those that wait for a commit."""
    with Client(server.port) as client:
        client.send(
            get("/healthz") + post() + get("/protocol") + post({}) + get("/nothing") + post() + get("/", close=True)
        )
        answers = [client.answer() for _ in range(7)]
        assert [answer.status for answer in answers] == [200, 200, 200, 422, 404, 200, 200]
        assert [answer.body for answer in answers[:3]] == [b"ok", b"", b"seldonfeedback.http"]
        assert answers[6].body == b"Alive"
        assert client.is_closed()


def test_a_hundred_pipelined_events_all_count(server: Served) -> None:
    """A client that sends on without waiting for answers gets every one of them, and every event counts."""
    before = accepted(server)
    with Client(server.port) as client:
        client.send(post() * 100)
        assert [client.answer().status for _ in range(100)] == [200] * 100
    assert accepted(server) - before == 100


def test_a_request_may_come_in_single_bytes(server: Served) -> None:
    """How a request is cut into packets changes nothing."""
    with Client(server.port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post():
            client.send(bytes([byte]))
        assert client.answer().status == 200


def test_a_chunked_body_is_the_same_body(server: Served) -> None:
    """A body in chunks counts like one with a length, compressed or not."""
    before = accepted(server)
    assert server.ask(chunked(CONTENT)).status == 200
    assert server.ask(chunked(gzip.compress(CONTENT), "Content-Encoding: gzip")).status == 200
    assert accepted(server) - before == 2


def test_connections_are_kept(server: Served) -> None:
    """One connection takes one request after the other, refused ones among them."""
    with Client(server.port) as client:
        for data, status in (
            (post(), 200),
            (post(b"{"), 400),
            (get("/healthz"), 200),
            (get("/nothing"), 404),
            (post(), 200),
        ):
            client.send(data)
            answer = client.answer()
            assert answer.status == status
            assert "connection" not in answer.headers


@pytest.mark.parametrize(
    "data", [post(close=True), post(b"{", close=True), get("/healthz", close=True), get("/nothing", close=True)]
)
def test_connection_close_closes(server: Served, data: bytes) -> None:
    """A client that says Connection: close is told the same and the connection ends with the answer."""
    with Client(server.port) as client:
        client.send(data)
        assert client.answer().headers["connection"] == "close"
        assert client.is_closed()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http_1_0_closes_unless_asked_to_keep(server: Served, method: str) -> None:
    """HTTP/1.0 gets one answer and the end, or with Connection: keep-alive the next one too."""
    line = f"{method} / HTTP/1.0\r\n".encode()
    length = b"Content-Length: %d\r\n\r\n%s" % (len(CONTENT), CONTENT) if method == "POST" else b"\r\n"
    with Client(server.port) as client:
        client.send(line + length)
        assert client.answer().status == 200
        assert client.is_closed()
    with Client(server.port) as client:
        for _ in range(2):
            client.send(line + b"Connection: keep-alive\r\n" + length)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")


def test_expect_continue_gets_its_word(server: Served) -> None:
    """A sender that asks first is told to go on, and then gets its answer."""
    with Client(server.port) as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)
        )
        assert client.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(CONTENT)
        assert client.answer().status == 200


@pytest.mark.parametrize("token", ["h2c", "websocket"])
def test_an_offer_to_upgrade_is_declined_and_the_event_counts(server: Served, token: str) -> None:
    """A request that offers another protocol, as Java's client does with h2c, is answered as if it had not."""
    before = accepted(server)
    with Client(server.port) as client:
        client.send(post(GOOD, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {token}", "HTTP2-Settings: AAMAAABk"))
        assert client.answer().status == 200
        client.send(get("/healthz", close=True))
        assert client.answer().status in (200, 0)  # goes on, or has said that it ends
    assert accepted(server) - before == 1


def test_a_target_in_absolute_form_is_its_path(server: Served) -> None:
    """A request by way of a proxy names the whole URL; it goes where its path goes."""
    assert server.ask(request("http://test/healthz", method="GET")).body == b"ok"
    assert server.ask(request("http://test/", GOOD)).status == 200


# ends


def test_half_closed_client_gets_its_answer(server: Served) -> None:
    """A client that has ended its own side still gets its answers."""
    for data, status in ((post(), 200), (get("/v1/metrics"), 200), (post(b"{"), 400)):
        with Client(server.port) as client:
            client.send(data * 3)
            client.end()
            assert [client.answer().status for _ in range(3)] == [status] * 3
            assert client.is_closed()


def test_an_event_counts_though_its_sender_has_gone(server: Served) -> None:
    """A whole event counts, also when nobody waits for the answer."""
    before = accepted(server)
    for _ in range(10):
        with Client(server.port) as client:
            client.send(post())
    deadline = time.monotonic() + 5
    while accepted(server) - before < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert accepted(server) - before == 10


@pytest.mark.parametrize("data", [HALF_BODY, BAD_CHUNK], ids=["cut-short", "malformed"])
def test_unfinished_bodies_leave_nothing_behind(data: bytes) -> None:
    """Bodies of clients that die or err while they send are forgotten: the next sender has room, and the stop is
    clean."""
    with serving("--max_bodies_bytes", "200000") as server:
        for _ in range(5):
            with Client(server.port) as client:
                client.send(data)
                client.end()
                client.answer()
        assert server.ask(post()).status == 200
        server.process.terminate()
        assert server.process.wait(30) == 0


def test_a_refused_event_leaves_nothing_behind() -> None:
    """A payload that cannot be read does not count as unanswered when the server stops."""
    with serving() as server:
        for body in (
            b'{"reward": %s}' % (b"9" * 400),
            {"truth": {"data": {"tensor": {"shape": [2, 0], "values": []}}}, "reward": 1},
        ):
            assert server.ask(post(body)).status != 0
        server.process.terminate()
        assert server.process.wait(30) == 0


# slow clients


def test_slow_clients_hold_nobody_up(server: Served) -> None:
    """While a hundred clients have sent half a header or half a body, others are answered at once."""
    with contextlib.ExitStack() as stack:
        for number in range(100):
            client = stack.enter_context(Client(server.port))
            client.send((HALF_HEAD, HALF_BODY)[number % 2])
        started = time.monotonic()
        for _ in range(20):
            assert server.ask(post()).status == 200
            assert server.ask(get("/healthz", close=True)).status == 200
        assert time.monotonic() - started < connection.BODY_SECONDS / 2


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    """A server that waits for tenths of a second where the real one waits for many."""
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(connection, "STALL_SECONDS", 0.4)
    monkeypatch.setattr(connection, "SWEEP_SECONDS", 0.05)
    with Inside() as inside:
        yield inside


def test_a_body_that_does_not_come_is_408(hasty: Inside) -> None:
    """Who does not finish the body in time gets 408 and the end, and leaves nothing behind."""
    with Client(hasty.port) as client:
        client.send(HALF_BODY)
        answer = client.answer()
        assert (answer.status, answer.reason, answer.headers["connection"]) == (408, "body_timeout", "close")
        assert client.is_closed()
    assert hasty.stop() is True


def test_a_body_that_would_be_too_large_is_never_408(hasty: Inside) -> None:
    """A length beyond the limit is 413 however slowly the body comes: 408 would have the sender try for ever."""
    with Client(hasty.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100001\r\n\r\n" + b" " * 1000)
        answer = client.answer()
        assert (answer.status, answer.reason) == (413, "body_too_large")
    assert hasty.stop() is True


@pytest.mark.parametrize("data", [b"", HALF_HEAD, get("/healthz")], ids=["nothing", "half-a-head", "a-request"])
def test_an_idle_connection_is_closed(hasty: Inside, data: bytes) -> None:
    """A connection on which no whole request comes in time is closed."""
    with Client(hasty.port) as client:
        client.send(data)
        assert client.answer().status == (200 if data.endswith(b"\r\n\r\n") else 0)
        assert client.is_closed()


def test_a_header_sent_drop_by_drop_gains_no_time(hasty: Inside) -> None:
    """The time for a request's headers runs from the last request, not from the last byte."""
    with Client(hasty.port) as client:
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 20:
                client.socket.sendall(b"X")
                time.sleep(0.02)
        assert time.monotonic() - started < 10


def test_a_client_that_does_not_read_is_let_go(hasty: Inside) -> None:
    """A client that asks on and on but never reads its answers is cut off, and meanwhile others are served."""
    with Client(hasty.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.setblocking(False)
        started = time.monotonic()
        cut = False
        while not cut and time.monotonic() - started < 20:
            try:
                client.socket.send(get("/v1/metrics") * 50)
            except BlockingIOError:
                time.sleep(0.02)
            except ConnectionError:
                cut = True
        assert cut
    with Client(hasty.port) as other:
        other.send(get("/healthz"))
        assert other.answer().status == 200


# limits


def test_pipelined_headers_have_the_same_limit(server: Served) -> None:
    """17 KiB of headers are 431 also behind another request."""
    with Client(server.port) as client:
        client.send(get("/healthz") + post(GOOD, "X-Pad: " + "x" * 17_000, close=True))
        assert [client.answer().status for _ in range(2)] == [200, 431]


def test_trailers_have_a_limit(server: Served) -> None:
    """Headers after a chunked body are not collected without end."""
    with Client(server.port) as client:
        client.send(request("/", b"", "Transfer-Encoding: chunked", length=False) + b"0\r\n")
        client.send((b"X-Pad: " + b"x" * 10_000 + b"\r\n") * 200)
        assert client.answer().status in (400, 431)


def test_too_many_connections_are_refused() -> None:
    """One connection more than --max_connections is closed at once; when another ends there is room again."""
    with serving("--max_connections", "5") as server:
        time.sleep(0.1)  # the connection that found it listening has ended
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(server.port)) for _ in range(5)]
            for client in clients:
                client.send(get("/healthz"))
                assert client.answer().status == 200
            for _ in range(20):
                assert server.ask(get("/healthz")) == NONE
            clients[0].socket.close()
            deadline = time.monotonic() + 5
            while (answer := server.ask(get("/healthz"))) == NONE and time.monotonic() < deadline:
                time.sleep(0.01)
            assert answer.status == 200
            clients[1].send(get("/healthz"))
            assert clients[1].answer().status == 200


# verbs


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_head_is_get_without_the_body(server: Served, path: str) -> None:
    """HEAD has the status and the headers of GET, and no body."""
    with Client(server.port) as client:
        client.send(get(path))
        got = client.answer()
        client.send(request(path, method="HEAD", close=False) + get("/healthz"))
        head = client.answer(head=True)
        assert client.answer().body == b"ok"  # nothing came between
    ignored = {"date", "etag", "content-length"} if "metrics" in path else {"date"}
    assert head.status == got.status
    assert {k: v for k, v in head.headers.items() if k not in ignored} == {
        k: v for k, v in got.headers.items() if k not in ignored
    }


def test_options_is_the_web_hook_handshake(server: Served) -> None:
    """OPTIONS / consents to the origin and the rate that are asked for, and names the verbs."""
    answer = server.ask(
        request(
            "/",
            b"",
            "WebHook-Request-Origin: events.example.net",
            "WebHook-Request-Rate: 600",
            method="OPTIONS",
            close=False,
        )
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["webhook-allowed-origin"] == "events.example.net"
    assert answer.headers["webhook-allowed-rate"] in ("600", "*")
    assert {"POST", "OPTIONS"} <= set(answer.headers["allow"].split(", "))
    assert "content-length" not in answer.headers


def test_options_without_an_origin_consents_to_nothing(server: Served) -> None:
    """OPTIONS without the handshake's header names the verbs and allows no origin."""
    answer = server.ask(request("/", b"", method="OPTIONS"))
    assert answer.status == 204
    assert "POST" in answer.headers["allow"]
    assert "webhook-allowed-origin" not in answer.headers


@pytest.mark.parametrize(
    "data",
    [
        *(get(path, close=True) for path in (*PATHS, "/nothing")),
        request("/", method="OPTIONS"),
        request("/", GOOD),
        request("/", b"{"),
        request("/", method="PUT"),
        request("/", b"{}", "X-Pad: " + "x" * 17_000),
        b"garbage\r\n\r\n",
        b"GET /\r\n\r\n",
    ],
    ids=lambda data: data.partition(b"\r\n")[0].decode(),
)
def test_no_answer_names_the_software(server: Served, data: bytes) -> None:
    """No answer has a Server header."""
    answer = server.ask(data)
    assert answer.status
    assert "server" not in answer.headers
    assert b"ornado" not in answer.body


def test_connect_is_refused(server: Served) -> None:
    """CONNECT, which the parser takes for a change of protocol, is answered 400."""
    answer = server.ask(b"CONNECT example.net:443 HTTP/1.1\r\nHost: example.net:443\r\n\r\n")
    assert (answer.status, answer.reason) == (400, "malformed_http")


def test_a_gzip_body_of_endless_members_is_refused(server: Served) -> None:
    """Many empty members, each of which would cost a copy of the rest, are no body."""
    answer = server.ask(request("/", gzip.compress(b"") * 20_000))
    assert (answer.status, answer.reason) == (400, "malformed_gzip")


def test_a_client_that_does_not_read_keeps_no_shutdown_waiting() -> None:
    """SIGTERM ends the server cleanly although a client never reads what it asked for."""
    with serving("--drain_seconds", "5") as server, Client(server.port) as client:
        for number in range(300):
            server.ask(
                post(
                    GOOD,
                    f"Ce-Modelid: m{number}",
                    "Ce-Specversion: 1.0",
                    f"Ce-Id: {number}",
                    "Ce-Source: s",
                    f"Ce-Type: {FEEDBACK}",
                )
            )
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(0.5)
        client.send(get("/v1/metrics") * 20 + post() * 5)
        server.process.terminate()
        assert server.process.wait(30) == 0
