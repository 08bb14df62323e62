"""The routes of the JSON API: what is asked goes to `Api`, what is to be retired to the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from metrics_server import query
from metrics_server.answer import error_answer, rejected_answer, unavailable_answer
from metrics_server.api import Api, Patience
from metrics_server.desk import Asking, Desk, Lane
from metrics_server.errors import Rejected, Unavailable
from metrics_server.handlers import Rendering
from metrics_server.query import Refusal, labels_of
from metrics_server.router import Gate
from metrics_server.writer import RETIRED, Settled, Writer

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class Answering(Asking):
    """A route that `Api` answers."""

    def initialize(self, api: Api, desk: Desk) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(desk)
        self._api = api

    async def answer_json(self, lane: Lane, make: Callable[[Patience], object]) -> None:
        """Answers with what is made when there is time for it."""
        await self.ask(lane, lambda patience: (_encode(make(patience)), JSON))


class Models(Answering):
    """All series."""

    async def get(self) -> None:
        await self.answer_json(self._desk.readings, lambda _: self._api.models(self.request.query))


class Deployment(Answering):
    """The series of one deployment, or its predictors compared."""

    async def get(self, *parts: str) -> None:
        await self.answer_json(self._desk.readings, lambda _: self._api.deployment(parts, self.request.query))


class Model(Answering):
    """One series: read, or retired by who has the token."""

    ALLOWED = "GET, HEAD, DELETE"

    def initialize(self, api: Api, desk: Desk, writer: Writer, gate: Gate) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(api, desk)
        self._writer = writer
        self._gate = gate

    async def get(self, *parts: str) -> None:
        is_past = query.asks_for(self.request.query, query.HISTORY)
        await self.answer_json(self._desk.past if is_past else self._desk.readings, partial(self._api.model, parts, self.request.query))

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
