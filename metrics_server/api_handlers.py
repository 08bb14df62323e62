"""The routes of the JSON API: what is asked goes to `Api`, what is to be retired to the writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from metrics_server import query
from metrics_server.answer import error_answer, rejected_answer, unavailable_answer
from metrics_server.api import Api, Patience
from metrics_server.errors import Rejected, Unavailable
from metrics_server.handlers import Rendered, Rendering
from metrics_server.query import Refusal, labels_of
from metrics_server.router import Gate
from metrics_server.writer import RETIRED, Settled, Writer

JSON = "application/json"
STOPPING = "the server is stopping"


class Lane:
    """Answers questions beside the event loop, so many at a time; only some more may wait."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threads + waiting
        self._open: set[Patience] = set()
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    @contextmanager
    def place(self) -> Iterator[Patience]:
        """A place in it until the answer is given; raises `Unavailable` if there is none."""
        if self._is_stopped or len(self._open) >= self._room:
            raise Unavailable(STOPPING if self._is_stopped else "too much is asked at once")
        patience = Patience()
        self._open.add(patience)
        try:
            yield patience
        finally:
            self._open.discard(patience)

    def stop(self) -> None:
        """Takes no more questions, and answers none of those that it has."""
        self._is_stopped = True
        for patience in self._open:
            patience.end(STOPPING)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)


class Desk:
    """Where questions wait: those about the past, which may take seconds, by themselves, and none of them with the scrapes."""

    def __init__(self) -> None:
        self.readings = Lane("api", threads=2, waiting=100)
        self.past = Lane("past", threads=1, waiting=20)

    async def stop(self, seconds: float) -> None:
        """Answers what takes milliseconds, and tells who asked about the past to ask elsewhere; after so many seconds it ends anyhow."""
        self.past.stop()
        deadline = time.monotonic() + seconds
        while (self.readings.is_busy or self.past.is_busy) and time.monotonic() < deadline:  # noqa: ASYNC110 - counters, looked at once
            await asyncio.sleep(0.01)
        self.readings.stop()
        self.past.close()
        self.readings.close()


class Answering(Rendering):
    """A route that `Api` answers."""

    def initialize(self, api: Api, desk: Desk) -> None:
        self._api = api
        self._desk = desk
        self._patience: Patience | None = None

    async def ask(self, lane: Lane, make: Callable[[Patience], bytes]) -> None:
        """Answers with what is made when there is time for it."""
        self.EXECUTOR = lane.executor
        try:
            with lane.place() as self._patience:
                await self.respond(partial(_json, make, self._patience))
        except Unavailable as error:  # no place
            self.answer(unavailable_answer(str(error)))

    def on_connection_close(self) -> None:
        if self._patience is not None:
            self._patience.end("the client has gone")
        super().on_connection_close()


def _json(make: Callable[[Patience], bytes], patience: Patience) -> Rendered:
    patience.begin()
    return make(patience), JSON


class Models(Answering):
    """All series."""

    async def get(self) -> None:
        await self.ask(self._desk.readings, lambda _: self._api.models(self.request.query))


class Deployment(Answering):
    """The series of one deployment, or its predictors compared."""

    async def get(self, *parts: str) -> None:
        await self.ask(self._desk.readings, lambda _: self._api.deployment(parts, self.request.query))


class Model(Answering):
    """One series: read, or retired by who has the token."""

    ALLOWED = "GET, HEAD, DELETE"

    def initialize(self, api: Api, desk: Desk, writer: Writer, gate: Gate) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(api, desk)
        self._writer = writer
        self._gate = gate

    async def get(self, *parts: str) -> None:
        is_past = query.asks_for(self.request.query, query.HISTORY)
        await self.ask(self._desk.past if is_past else self._desk.readings, partial(self._api.model, parts, self.request.query))

    async def delete(self, *parts: str) -> None:
        try:
            self._gate.check_owner(self.request.headers.get("Authorization", ""), self.request.query)
            query.read(self.request.query, query.TOKEN)
        except Rejected as error:
            self.answer(rejected_answer(error))
        except Refusal as error:
            self.answer(error_answer(error.status, error.reason, error.detail))
        else:
            with self._gate.open_request():  # a server that stops waits for it
                self._tell(await self._retired(parts))

    async def _retired(self, parts: Sequence[str]) -> Settled:
        told: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._writer.retire(labels_of(parts), lambda settled: told.set_result(settled[0]))
        return await told

    def _tell(self, outcome: Settled) -> None:
        if outcome == RETIRED:
            self.clear_header("Content-Type")
            self.set_status(204)
            self.finish()
        elif isinstance(outcome, Unavailable):
            self.answer(unavailable_answer(str(outcome)))
        else:
            self.answer(error_answer(404, "not_found", "there is no such series"))


class OpenApi(Rendering):
    """The OpenAPI document."""

    def initialize(self, document: bytes) -> None:
        self._document = document

    async def get(self) -> None:
        await self.respond(lambda: (self._document, JSON))
