"""Delivery of the events of the simulated executors: a bounded queue, and ten workers that overtake each other."""

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
from metrics_server.commands.simulation.executor_event import Message

WORKERS = 10
QUEUE_EVENTS = 10_000  # as of an executor
BUSY_EVENTS = 1_000  # traffic of our own pauses while more are waiting
RESPONSE_SECONDS = 10.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0)


class StoredSeries(msgspec.Struct):
    """A series in the list of the server."""

    namespace: str
    deployment: str
    path: str
    created_at: float
    last_prediction_at: float | None  # when it arrived, whatever its time

    @property
    def deployment_path(self) -> str:
        """Namespace and name of its deployment."""
        return f"{self.namespace}/{self.deployment}"


class _List(msgspec.Struct):
    models: list[StoredSeries]


class _Point(msgspec.Struct):
    to: float


class _History(msgspec.Struct):
    points: list[_Point]


class Link:
    """HTTP to the server. It repeats what it cannot deliver, and says so once."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.url = url
        self._client = AsyncHTTPClient(force_instance=True, max_clients=WORKERS + 2)
        self._say = say
        self._is_up = True
        self._refused: set[int] = set()

    async def post(self, message: Message) -> None:
        """Delivers it; an executor would not try again, but a server that is restarted should not spoil the show."""
        headers, body = message
        response = await self._insist(Route.ROOT.path(), method="POST", headers=headers, body=body)
        if response.code >= 300 and response.code not in self._refused:
            self._refused.add(response.code)
            self._say(
                f"{self.url} refused an event: HTTP {response.code} {response.body[:200].decode(errors='replace')}"
            )

    async def series(self) -> list[StoredSeries]:
        """Lists all series of the server."""
        response = await self._insist(Route.MODELS.path())
        return msgspec.json.decode(response.body, type=_List).models if response.code == 200 else []

    async def last_prediction_at(self, series: StoredSeries, since: float) -> float:
        """Returns the time of the last prediction since then, 0 without any.

        It is off by a step of the history if a past was told incompletely.
        """
        response = await self._insist(f"{series.path}?from={since}")
        points = msgspec.json.decode(response.body, type=_History).points if response.code == 200 else []
        return min(points[-1].to, series.last_prediction_at or 0.0) if points else 0.0

    async def page(self) -> str | None:
        """Returns the metrics page, if the server responds with it now."""
        response = await self._fetch(Route.METRICS.path())
        return response.body.decode() if response is not None and response.code == 200 else None

    async def is_ready(self) -> bool:
        """Returns whether the server is ready. A failure is not logged: a server that starts is not there yet."""
        try:
            return (await self._client.fetch(f"{self.url}{Route.READYZ.path()}", raise_error=False)).code == 200
        except (OSError, HTTPClientError):
            return False

    async def _insist(self, path: str, **options: Any) -> HTTPResponse:
        for attempt in range(sys.maxsize):
            response = await self._fetch(path, **options)
            if response is not None and response.code != 503:
                break
            # Spread, so that everything that waited does not come back at once.
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)] * SystemRandom().uniform(0.5, 1.5))
        assert response is not None
        return response

    async def _fetch(self, path: str, **options: Any) -> HTTPResponse | None:
        try:
            response = await self._client.fetch(
                self.url + path, raise_error=False, request_timeout=RESPONSE_SECONDS, **options
            )
        except (OSError, HTTPClientError) as error:  # HTTPClientError: no response in time, or an incomplete one
            if self._is_up:
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
                self._say(f"Cannot reach {self.url} ({reason}); trying again until it answers.")
            self._is_up = False
            return None
        if not self._is_up:
            self._say(f"{self.url} answers again.")
        self._is_up = True
        return response


class Copies:
    """Repeats a share of the events, as a broker does that missed a response."""

    def __init__(self, repeats: float, random: Random) -> None:
        self._repeats, self._random = repeats, random

    def of(self, message: Message) -> list[Message]:
        """Returns the message as often as it arrives."""
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
        """Delivers events, without end."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._work())

    async def room(self) -> None:
        """Returns when few events wait. Traffic that waits for this before each call has no event dropped."""
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
