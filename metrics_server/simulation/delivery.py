"""How the events of the simulated executors reach the server: a bounded queue, and ten workers that overtake each
other.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse

from metrics_server.api.routes import Route
from metrics_server.simulation.executor_event import Message

WORKERS = 10
QUEUE_EVENTS = 10_000  # as of an executor
BUSY_EVENTS = 1_000  # traffic of our own pauses while more are waiting
ANSWER_SECONDS = 10.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0)


class KnownSeries(msgspec.Struct):
    """What the server knows of a series."""

    namespace: str
    deployment: str
    path: str
    created_at: float
    last_prediction_at: float | None  # when it arrived, whatever its time


class _List(msgspec.Struct):
    models: list[KnownSeries]


class _Point(msgspec.Struct):
    to: float


class _History(msgspec.Struct):
    points: list[_Point]


class Link:
    """HTTP to the server. What it cannot deliver it tries again, and says so once."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.url = url
        self._client = AsyncHTTPClient(force_instance=True, max_clients=WORKERS + 2)
        self._say = say
        self._is_up = True
        self._refused: set[int] = set()

    async def post(self, message: Message) -> None:
        """Delivers it; an executor would not try again, but a server that is restarted should not spoil the show."""
        headers, body = message
        answer = await self._insist(Route.ROOT.path(), method="POST", headers=headers, body=body)
        if answer.code >= 300 and answer.code not in self._refused:
            self._refused.add(answer.code)
            self._say(f"{self.url} refused an event: HTTP {answer.code} {answer.body[:200].decode(errors='replace')}")

    async def known(self) -> list[KnownSeries]:
        """All series of the server."""
        answer = await self._insist(Route.MODELS.path())
        return msgspec.json.decode(answer.body, type=_List).models if answer.code == 200 else []

    async def known_until(self, series: KnownSeries, since: float) -> float:
        """The time of the last prediction since then, 0 without any. It is off by a step of the history if a past was
        told in part.
        """
        answer = await self._insist(f"{series.path}?from={since}")
        points = msgspec.json.decode(answer.body, type=_History).points if answer.code == 200 else []
        return min(points[-1].to, series.last_prediction_at or 0.0) if points else 0.0

    async def page(self) -> str | None:
        """The server's metrics, if it tells them now."""
        answer = await self._fetch(Route.METRICS.path())
        return answer.body.decode() if answer is not None and answer.code == 200 else None

    async def is_ready(self) -> bool:
        """Asks without a word about a failure: a server that starts is not there yet."""
        try:
            return (await self._client.fetch(f"{self.url}{Route.READYZ.path()}", raise_error=False)).code == 200
        except (OSError, HTTPClientError):
            return False

    async def _insist(self, path: str, **options: Any) -> HTTPResponse:
        for attempt in range(sys.maxsize):
            answer = await self._fetch(path, **options)
            if answer is not None and answer.code != 503:
                break
            # Spread, so that everything that waited does not come back at once.
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)] * SystemRandom().uniform(0.5, 1.5))
        assert answer is not None
        return answer

    async def _fetch(self, path: str, **options: Any) -> HTTPResponse | None:
        try:
            answer = await self._client.fetch(
                self.url + path, raise_error=False, request_timeout=ANSWER_SECONDS, **options
            )
        except (OSError, HTTPClientError) as error:  # HTTPClientError: no answer in time, or half of one
            if self._is_up:
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
                self._say(f"Cannot reach {self.url} ({reason}); trying again until it answers.")
            self._is_up = False
            return None
        if not self._is_up:
            self._say(f"{self.url} answers again.")
        self._is_up = True
        return answer


class Copies:
    """How often each event arrives: a share of them twice, as through a broker that missed an answer."""

    def __init__(self, repeats: float, random: Random) -> None:
        self._repeats, self._random = repeats, random

    def of(self, message: Message) -> list[Message]:
        """The message, as often as it arrives."""
        return [message] * (1 + (self._random.random() < self._repeats))


class Delivery:
    """The log of the executors: it holds nobody up, and drops and counts what it has no room for."""

    def __init__(self, link: Link, copies: Copies) -> None:
        self.dropped = 0
        self._link, self._copies = link, copies
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_EVENTS)
        self._has_room = asyncio.Event()
        self._has_room.set()

    def log(self, message: Message) -> None:
        """Takes an event to deliver it, or drops it."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped += 1
        if self._queue.qsize() > BUSY_EVENTS:
            self._has_room.clear()

    async def run(self) -> None:
        """Delivers, without end."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._work())

    async def room(self) -> None:
        """Returns when few events wait: who asks before each call has none dropped while the server is away."""
        await self._has_room.wait()

    async def drain(self) -> None:
        """Returns when all is delivered."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            message = await self._queue.get()
            if self._queue.qsize() <= BUSY_EVENTS:
                self._has_room.set()
            for copy in self._copies.of(message):
                await self._link.post(copy)
            self._queue.task_done()
