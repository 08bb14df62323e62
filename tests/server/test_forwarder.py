"""Replies on their way to --reply_url: each has one outcome, also at the end, and an outage is told once."""

from __future__ import annotations

import asyncio
import http.server
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from metrics_server.ingest.reply import MAX_WAITING, SENDERS, Forwarder, Reply
from metrics_server.telemetry import REPLY_OUTCOMES, Telemetry
from tests.conftest import Serve
from tests.support.replies import await_outcome, receiving
from tests.support.running import FEEDBACK, ce

PAIR = {"response": {"data": {"ndarray": [1]}}, "truth": {"data": {"ndarray": [1]}}}
REPLY: Reply = ({"ce-id": "1"}, b"{}")
OPTIONS = ("--store", "memory://", "--event_type", "reply", "--event_source", "/metrics", "--reply_url")


def outcomes(telemetry: Telemetry) -> Counter[str]:
    """The counts of `metrics_server_replies_total`, without those of 0."""
    page = {
        outcome: telemetry.registry.get_sample_value("metrics_server_replies_total", {"outcome": outcome})
        for outcome in REPLY_OUTCOMES
    }
    return +Counter({outcome: int(value or 0) for outcome, value in page.items()})


class _Receiver:
    """Takes the connections of a forwarder, and answers those that it is told to."""

    def __init__(self) -> None:
        self.requests = asyncio.Queue[asyncio.StreamWriter]()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests.put_nowait(writer)

    async def answer(self) -> None:
        writer = await asyncio.wait_for(self.requests.get(), 10)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def _stopped_with(replies: int, answered: int, telemetry: Telemetry) -> None:
    """Forwards replies to a receiver that answers so many, holds the others, and lives on when the forwarder stops."""
    receiver = _Receiver()
    server = await asyncio.start_server(receiver.connected, "127.0.0.1", 0)
    async with server:
        forwarder = Forwarder(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", telemetry)
        forwarder.start()
        for _ in range(replies):
            forwarder.send(REPLY)
        for _ in range(answered):
            await receiver.answer()
        held = [await asyncio.wait_for(receiver.requests.get(), 10) for _ in range(min(SENDERS, replies - answered))]
        while outcomes(telemetry)["delivered"] < answered:  # noqa: ASYNC110 - the forwarder tells nobody when it counts
            await asyncio.sleep(0)
        forwarder.stop()
        forwarder.send(REPLY)
        for writer in held:
            writer.close()


@pytest.mark.parametrize(("replies", "answered"), [(20, 3), (2, 0), (SENDERS + 1, 1), (1, 1), (0, 0)])
def test_replies_that_the_end_cuts_off_are_counted_as_dropped(
    replies: int, answered: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits at the end, what is being sent then, and what comes later is dropped, each once; one line says how
    many were not sent."""
    telemetry = Telemetry()
    asyncio.run(_stopped_with(replies, answered, telemetry))
    assert outcomes(telemetry) == +Counter({"delivered": answered, "dropped": replies - answered + 1})
    told = [record.getMessage() for record in caplog.records]
    unsent = f"{replies - answered} replies to --reply_url http://127.0.0.1:"
    assert [line.startswith(unsent) for line in told] == ([True] if replies > answered else [])


def test_more_replies_than_may_wait_are_dropped_at_once() -> None:
    """A forwarder that does not get through holds `MAX_WAITING` replies; at the end these are dropped too."""
    telemetry = Telemetry()

    async def run() -> None:
        forwarder = Forwarder("http://127.0.0.1:1/", telemetry)
        for _ in range(MAX_WAITING + 5):
            forwarder.send(REPLY)
        assert outcomes(telemetry) == {"dropped": 5}
        forwarder.stop()

    asyncio.run(run())
    assert outcomes(telemetry) == {"dropped": MAX_WAITING + 5}


class _Sink(http.server.BaseHTTPRequestHandler):
    """Answers replies with the status it is set to; when that is 0, once it is released."""

    status = 200
    released: threading.Event

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.status:
            self.released.wait(20)
            return
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *unused: Any) -> None:
        """Says nothing."""


@pytest.fixture
def sink() -> Iterator[tuple[type[_Sink], str]]:
    """A real receiver of replies."""
    handler = type("Sink", (_Sink,), {"released": threading.Event()})
    with receiving(handler) as url:
        yield handler, url
        handler.released.set()


def test_an_outage_of_the_receiver_is_told_once(serve: Serve, sink: tuple[type[_Sink], str]) -> None:
    """However many replies are lost, the log says once that the receiver takes none, and once that it does again."""
    handler, url = sink
    server = serve(*OPTIONS, url)
    for status, outcome in ((400, "refused"), (503, "failed"), (200, "delivered")):
        handler.status = status
        for number in (1, 2):
            assert server.post(PAIR, ce(FEEDBACK, f"{status}.{number}", f"r{status}.{number}")).status == 200
            await_outcome(server, outcome, number)
    assert server.stop() == 0
    log = server.log.read_text()
    assert (log.count("does not take replies"), log.count("takes replies again")) == (1, 1)
    assert "were not sent" not in log


def test_a_server_that_stops_tells_how_many_replies_it_gave_up(serve: Serve, sink: tuple[type[_Sink], str]) -> None:
    """Replies that a receiver holds up do not hold up the end, and the log has their number in one line."""
    handler, url = sink
    handler.status = 0
    server = serve(*OPTIONS, url)
    for number in range(7):
        assert server.post(PAIR, ce(FEEDBACK, f"{number}", f"r{number}")).status == 200
    assert server.stop() == 0
    assert re.findall(r"(\d+) replies to --reply_url \S+ were not sent", server.log.read_text()) == ["7"]
