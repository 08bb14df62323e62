"""Clients that ask and do not read, and scrapes that come all at once: memory, others and the shutdown do not
suffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metrics_server.errors import Unavailable
from metrics_server.http import connection
from metrics_server.http.handler import Encoded
from metrics_server.http.slow_readers import OWN_BYTES, SlowReaders
from metrics_server.http.worker_pools import SharedPages, WorkerPool
from tests.support.inside import Inside
from tests.support.raw_http import Answer, Client, Served, request, serving

SERIES = 150
SCRAPE = request("/v1/metrics", method="GET", close=False)
MEGABYTE = 2**20


def _pairs(series: int) -> bytes:
    """A POST of feedback on so many deployments, each of ten classes."""
    items = [{"truth": n % 10, "prediction": n % 7, "deployment": f"d{n // 10}"} for n in range(series * 10)]
    return request("/v1/feedback", json.dumps(items).encode(), "Content-Type: application/json")


def _ask(port: int, data: bytes) -> Answer:
    """The answer to what may take a while."""
    with Client(port, timeout=30) as client:
        client.send(data)
        return client.answer()


@contextlib.contextmanager
def _large(*options: str, series: int = SERIES) -> Iterator[Served]:
    """A server whose page is of several megabytes."""
    with serving(*options) as server:
        assert _ask(server.port, _pairs(series)).status == 200
        yield server


def _resident(server: Served) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _deaf(port: int) -> socket.socket:
    """A client that has asked for the page and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(SCRAPE)
    return client


def _counted(port: int, name: str) -> float:
    asked = request("/metrics", b"", "Accept-Encoding: gzip", method="GET")
    page = gzip.decompress(_ask(port, asked).body).decode()
    return float(next(line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")))


def test_clients_that_never_read_take_bounded_memory() -> None:
    """A hundred of them, each for a page of its own, take 64 MB and not a page each; who was cut is counted, and
    whoever reads gets a whole page."""
    with _large() as server, contextlib.ExitStack() as stack:
        page = len(_ask(server.port, SCRAPE).body)
        assert page > 4 * MEGABYTE
        before = _resident(server)
        for _ in range(100):
            stack.enter_context(_deaf(server.port))
            assert _ask(server.port, _pairs(1)).status == 200  # so that the next page is another
        assert _counted(server.port, "metrics_server_slow_readers_total") > 0
        assert (_resident(server) - before) * MEGABYTE < 64 * MEGABYTE + 12 * page


def test_who_reads_slowly_but_reads_gets_it_all() -> None:
    """A client that takes seconds for a page gets every byte of it, and what it asked for behind it."""
    with _large() as server, Client(server.port, timeout=20) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(SCRAPE + request("/protocol", method="GET"))
        time.sleep(0.5)  # it is slow
        answer = client.answer()
        assert len(answer.body) == int(answer.headers["content-length"])
        assert answer.body.splitlines()[-1].startswith(b"metrics_server_")
        assert client.answer().body == b"seldonfeedback.http"
        assert client.is_closed()


@pytest.mark.parametrize("close", [False, True], ids=["half-closed", "connection-close"])
def test_a_large_answer_is_whole_before_the_connection_ends(close: bool) -> None:
    """The last byte of a page comes before the end, also when the client has ended its side or asked for the end."""
    with _large() as server, Client(server.port, timeout=20) as client:
        client.send(request("/v1/metrics", method="GET", close=close))
        if not close:
            client.end()
        answer = client.answer()
        assert len(answer.body) == int(answer.headers["content-length"]) > MEGABYTE
        assert client.is_closed()


def test_a_client_that_stalls_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing for the time of a stall is cut off, in the middle of its answer, and counted."""
    monkeypatch.setattr(connection, "STALL_SECONDS", 2.0)
    monkeypatch.setattr(connection, "SWEEP_SECONDS", 0.05)
    with Inside() as inside:
        assert [_ask(inside.port, _part(number)).status for number in range(2)] == [200] * 2
        with _deaf(inside.port) as client:
            deadline = time.monotonic() + 20
            while not (cut := _counted(inside.port, "metrics_server_slow_readers_total")):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert cut == 1
            client.settimeout(30)
            with contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass


def _part(number: int) -> bytes:
    """A POST of some feedback below the limit of a small server."""
    items = [{"truth": n % 10, "prediction": n % 7, "deployment": f"d{number}-{n // 10}"} for n in range(1000)]
    return request("/v1/feedback", json.dumps(items).encode(), "Content-Type: application/json")


# who is cut


class _Noted:
    """A connection that notes that it was cut."""

    def __init__(self, name: str, cut: list[str]) -> None:
        self.name, self._cut = name, cut

    def cut(self) -> None:
        self._cut.append(self.name)


def test_equal_bodies_are_kept_once() -> None:
    """Readers of equal pages share one, whoever made it; it is let go with its last reader."""
    cut: list[str] = []
    readers = SlowReaders(lambda: None, kept_bytes=20 * OWN_BYTES)
    first, second = bytes(10 * OWN_BYTES), bytes(bytearray(10 * OWN_BYTES))
    one, two = _Noted("one", cut), _Noted("two", cut)
    readers.add(one, readers.shared(first))
    assert readers.shared(second) is first
    readers.add(two, readers.shared(second))
    assert cut == []
    readers.remove(one)
    assert readers.shared(second) is first
    readers.remove(two)
    assert readers.shared(second) is second


def test_who_has_waited_longest_is_cut_first() -> None:
    """Beyond the limit the longest wait ends first, never that of the newest, and who has read on waits anew."""
    cut: list[str] = []
    counted: list[None] = []
    readers = SlowReaders(lambda: counted.append(None), kept_bytes=8 * OWN_BYTES)
    a, b, c, d = (_Noted(name, cut) for name in "abcd")
    for reader, byte in ((a, b"a"), (b, b"b")):
        readers.add(reader, byte * 4 * OWN_BYTES)
    readers.remove(a)
    readers.add(a, b"a" * 4 * OWN_BYTES)
    readers.add(c, b"c" * 4 * OWN_BYTES)
    assert cut == ["b"]
    readers.add(d, b"d" * 100 * OWN_BYTES)
    assert cut == ["b", "a"]
    readers.remove(d)
    readers.add(b, b"")
    assert (cut, len(counted)) == (["b", "a"], 2)


# scrapes at once


class _Gated:
    """Makes pages that say what was acknowledged when they were begun, each when it is let."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.made = 0
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def make(self) -> Encoded:
        seen = self.acknowledged
        self.begun.release()
        assert self.may_end.acquire(timeout=30)
        self.made += 1
        return Encoded(str(seen).encode(), "text/plain", is_zipped=False, etag="")


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool("scrapes", threads=1, waiting=2)
    yield pool
    pool.close()


def test_scrapes_share_a_page_that_none_finds_stale(pool: WorkerPool) -> None:
    """Scrapes that come while a page is made share the next one: it shows all that was acknowledged before any of them
    came, and it is one object for all."""

    async def scrape() -> tuple[list[Encoded], list[Encoded]]:
        pages, loop = SharedPages(pool), asyncio.get_running_loop()
        early = [asyncio.ensure_future(pages.page("key", gated.make)) for _ in range(2)]
        await loop.run_in_executor(None, gated.begun.acquire)
        gated.acknowledged = 1
        late = [asyncio.ensure_future(pages.page("key", gated.make)) for _ in range(200)]
        gated.may_end.release(2)
        return await asyncio.gather(*early), await asyncio.gather(*late)

    gated = _Gated()
    early, late = asyncio.run(scrape())
    assert {page.body for page in early} == {b"0"}
    assert {page.body for page in late} == {b"1"}
    assert len({id(page.body) for page in late}) == 1
    assert gated.made == 2


def test_more_pages_than_may_wait_are_unavailable(pool: WorkerPool) -> None:
    """Only so many different pages wait; what is beyond is told to come again, and afterwards there is room."""

    async def scrape() -> list[Encoded | BaseException]:
        pages = SharedPages(pool)
        waiting = [asyncio.ensure_future(pages.page(key, gated.make)) for key in range(5)]
        await asyncio.sleep(0)
        gated.may_end.release(10)
        told = await asyncio.gather(*waiting, return_exceptions=True)
        return [*told, await pages.page(4, gated.make)]

    gated = _Gated()
    *told, last = asyncio.run(scrape())
    assert [isinstance(one, Unavailable) for one in told] == [False, False, False, True, True]
    assert isinstance(last, Encoded)


def test_a_page_that_cannot_be_made_fails_for_those_who_asked(pool: WorkerPool) -> None:
    """Its error reaches all who shared it, and the next one is made anew."""

    async def scrape(make: Callable[[], Encoded]) -> list[Encoded | BaseException]:
        pages = SharedPages(pool)
        told = await asyncio.gather(*(pages.page("key", make) for _ in range(3)), return_exceptions=True)
        return [*told, await pages.page("key", lambda: Encoded(b"", "", is_zipped=False, etag=""))]

    *told, last = asyncio.run(scrape(lambda: (_ for _ in ()).throw(ZeroDivisionError())))
    assert all(isinstance(one, ZeroDivisionError) for one in told)
    assert isinstance(last, Encoded)


def _storm(server: Served, stack: contextlib.ExitStack, scrapes: int) -> list[Client]:
    """Clients that have all asked for the page, each in words of its own, and have not been answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < scrapes + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, scrapes + 200), hard))
    clients = [stack.enter_context(Client(server.port, timeout=20)) for _ in range(scrapes)]
    for number, client in enumerate(clients):
        client.send(request("/v1/metrics", b"", f"Accept: text/plain, x/y{number}", method="GET", close=False))
    return clients


def test_a_stop_does_not_wait_for_scrapes() -> None:
    """With hundreds of scrapes waiting the server is gone within --drain_seconds and what one page takes."""
    with _large("--drain_seconds", "2", series=50) as server, contextlib.ExitStack() as stack:
        _storm(server, stack, 400)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - started < 2 + 8


@pytest.mark.long
def test_too_many_scrapes_are_told_to_come_again() -> None:
    """Beyond a hundred different pages that wait a scrape is 503 with Retry-After, at once; events do not notice."""
    with _large() as server, contextlib.ExitStack() as stack:
        clients = _storm(server, stack, 200)
        last = clients[-1].answer()
        assert (last.status, last.reason, last.headers["retry-after"]) == (503, "unavailable", "1")
        assert _ask(server.port, _pairs(1)).status == 200
