"""The routes of the JSON API: what is asked goes to `Api`, what is to be retired to the writer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from metrics_server.api import parameters as query
from metrics_server.api.exposition import Exposition
from metrics_server.api.parameters import Parameter, labels_of
from metrics_server.api.routes import SCHEMA, Route, serves
from metrics_server.api.service import CATCH_UP_SECONDS, Api
from metrics_server.errors import BadRequest, Rejected, Unavailable
from metrics_server.http.handler import Encoded, Handler, RenderedHandler, encoded
from metrics_server.http.response import error_response, rejected_response, unavailable_response
from metrics_server.http.worker_pools import Deadline, NoTurn, PooledHandler, SharedPages, WorkerPool, WorkerPools
from metrics_server.ingest.pipeline import Ingest
from metrics_server.ingest.router import Gate
from metrics_server.metrics.labels import Outcome
from metrics_server.pairing.observation import digest_of
from metrics_server.pairing.writer import RetireResult, SubmissionResult, Writer
from metrics_server.series.series import Labels
from metrics_server.telemetry import Telemetry

JSON = "application/json"
NOTHING_KEPT = (
    "nothing is kept of this request: it has not come here, or it was erased, or it has left with --retention or"
    " --max_pending. In that last case what it has contributed cannot be taken back: it cannot be told from the rest of"
    " the sums, which hold no ids, and leaves with --history"
)
FEEDBACK_SCHEMA = (Path(__file__).parent / "schemas/feedback.json").read_bytes()

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Answering(PooledHandler):
    """A route that `Api` answers."""

    def initialize(self, api: Api, pools: WorkerPools) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(pools)
        self._api = api

    async def answer_json(self, pool: WorkerPool, make: Callable[[Deadline], object]) -> None:
        """Answers with what is made when there is time for it."""
        await self.ask(pool, lambda deadline: (_encode(make(deadline)), JSON))


@serves(Route.MODELS)
class Models(Answering):
    """All series."""

    async def get(self) -> None:
        await self.answer_json(self._pools.readings, lambda _: self._api.models(self.request.query))


@serves(Route.DEPLOYMENT)
class Deployment(Answering):
    """The series of one deployment, or its predictors compared."""

    async def get(self, *parts: str) -> None:
        await self.answer_json(self._pools.readings, lambda _: self._api.deployment(parts, self.request.query))


@serves(Route.VERDICT)
class DeploymentVerdict(Answering):
    """Whether the predictors of one deployment are better than their baseline."""

    async def get(self, *parts: str) -> None:
        await self.answer_json(self._pools.past, lambda _: self._api.verdicts(parts, self.request.query))


@serves(Route.GROUPS)
class Groups(Answering):
    """The groups of one deployment beside their references."""

    async def get(self, *parts: str) -> None:
        await self.answer_json(self._pools.readings, lambda _: self._api.groups(parts, self.request.query))


class OwnerOnly(Handler):
    """A route that does what only the owner of the server may have done."""

    _gate: Gate

    def allowed(self, parameters: Sequence[Parameter] = ()) -> dict[str, Any] | None:
        """Reads the query of who may; None for who may not, or a query that cannot be read: these are answered."""
        try:
            authorization = self.request.headers.get("Authorization", "")
            self._gate.access.check_owner(self.client_names, authorization, self.request.query)
            return query.read(self.request.query, (*parameters, *query.TOKEN))
        except Rejected as error:
            self.answer(rejected_response(error))
        except BadRequest as error:
            self.answer(error_response(error.status, error.reason, error.detail))
        return None

    def answer_done(self) -> None:
        """Answers that it is done, and that there is nothing to say of it."""
        self.clear_header("Content-Type")
        self.set_status(204)
        self.finish()


@serves(Route.REQUEST)
class Request(OwnerOnly):
    """One request: erased by who has the token."""

    ALLOWED = "DELETE"

    def initialize(self, ingest: Ingest, gate: Gate, telemetry: Telemetry) -> None:
        self._ingest = ingest
        self._gate = gate
        self._telemetry = telemetry

    async def delete(self, request_id: str) -> None:
        if (names := self.allowed(query.ERASURE)) is None:
            return
        labels = Labels(names.get("namespace", ""), names.get("deployment", ""), "", "")
        told: asyncio.Future[SubmissionResult] = asyncio.get_running_loop().create_future()
        with self._gate.open_request():  # a server that stops waits for it
            self._ingest.erase(request_id, labels, told.set_result)
            self._tell(request_id, await told)

    def _tell(self, request_id: str, result: SubmissionResult) -> None:
        if isinstance(result, Unavailable):
            self.answer(unavailable_response(str(result)))
        elif result is Outcome.ERASED:
            self._telemetry.erased_requests.inc()
            # The trail of an erasure must not hold what was erased: who knows the id can find the digest.
            logger.info("Erased the request with the digest %s", digest_of(request_id).hex())
            self.answer_done()
        else:
            self.answer(error_response(409, "nothing_kept", NOTHING_KEPT))


@serves(Route.MODEL)
class Model(Answering, OwnerOnly):
    """One series: read, or retired by who has the token."""

    ALLOWED = "GET, HEAD, DELETE"

    def initialize(self, api: Api, pools: WorkerPools, writer: Writer, gate: Gate) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(api, pools)
        self._writer = writer
        self._gate = gate

    async def get(self, *parts: str) -> None:
        is_past = query.asks_for(self.request.query, query.HISTORY)
        await self.answer_json(
            self._pools.past if is_past else self._pools.readings, partial(self._api.model, parts, self.request.query)
        )

    async def delete(self, *parts: str) -> None:
        if self.allowed() is not None:
            with self._gate.open_request():
                self._tell(await self._retired(parts))

    async def _retired(self, parts: Sequence[str]) -> RetireResult:
        told: asyncio.Future[RetireResult] = asyncio.get_running_loop().create_future()
        self._writer.retire(labels_of(parts), told.set_result)
        return await told

    def _tell(self, outcome: RetireResult) -> None:
        if outcome is True:
            self.answer_done()
        elif isinstance(outcome, Unavailable):
            self.answer(unavailable_response(str(outcome)))
        else:
            self.answer(error_response(404, "not_found", "there is no such series"))


@serves(Route.OPENAPI)
class OpenApi(RenderedHandler):
    """The OpenAPI document."""

    def initialize(self, document: bytes) -> None:
        self._document = document

    async def get(self) -> None:
        await self.respond(lambda: (self._document, JSON))


@serves(Route.FEEDBACK_SCHEMA)
class FeedbackSchema(RenderedHandler):
    """The JSON Schema of a feedback event."""

    async def get(self) -> None:
        await self.respond(lambda: (FEEDBACK_SCHEMA, SCHEMA))


WEBHOOK_ORIGIN, WEBHOOK_RATE = "WebHook-Request-Origin", "WebHook-Request-Rate"


class State:
    """Whether the server has been told to stop."""

    def __init__(self) -> None:
        self.stopping = False


class EventTarget(Handler):
    """A path of events: OPTIONS is the CloudEvents web hook handshake, POST the event route."""

    ALLOWED = "POST, OPTIONS"

    def options(self) -> None:
        """Consents to any origin at any rate: who may send is decided by the token and the network."""
        self.set_header("Allow", self.ALLOWED)
        if origin := self.request.headers.get(WEBHOOK_ORIGIN):
            self.set_header("WebHook-Allowed-Origin", origin)
            self.set_header("WebHook-Allowed-Rate", self.request.headers.get(WEBHOOK_RATE) or "*")
        self.clear_header("Content-Type")
        self.set_status(204)
        self.finish()


class Root(EventTarget):
    """GET says that the server is there."""

    ALLOWED = "GET, HEAD, POST, OPTIONS"

    def get(self) -> None:
        self.finish("Alive")


@serves(Route.METRICS, Route.SHORT_METRICS)
class Metrics(RenderedHandler):
    """The page for Prometheus."""

    VARY = "Accept, Accept-Encoding"

    def initialize(self, exposition: Exposition, pages: SharedPages, telemetry: Telemetry, writer: Writer) -> None:
        self._exposition = exposition
        self._pages = pages
        self._telemetry = telemetry
        self._writer = writer

    async def get(self) -> None:
        await self._caught_up()
        await self.send(self._page())

    async def _caught_up(self) -> None:
        """Waits for what other servers have committed before; without the store the last values are shown."""
        caught_up = asyncio.Event()
        self._writer.catch_up(lambda _: caught_up.set())
        with suppress(TimeoutError):
            await asyncio.wait_for(caught_up.wait(), CATCH_UP_SECONDS)

    async def _page(self) -> Encoded:
        accept, zipped = self.request.headers.get("Accept", ""), self.takes_gzip()
        names = query.sample_names(self.request.query)
        make = partial(encoded, partial(self._exposition.render, accept, names), zipped=zipped)
        try:
            return await self._pages.page((accept, zipped, names), make)
        except NoTurn as error:
            self._telemetry.refused_scrapes[error.reason].inc()
            raise


@serves(Route.HEALTHZ)
class Healthz(Handler):
    """Liveness: the process answers. It never asks the store."""

    def get(self) -> None:
        self.finish("ok")


@serves(Route.READYZ)
class Readyz(Handler):
    """Readiness: the store can be used, and the server is not shutting down."""

    def initialize(self, writer: Writer, state: State) -> None:
        self._writer = writer
        self._state = state

    def get(self) -> None:
        if self._state.stopping or not self._writer.is_up:
            self.set_status(503)
            self.finish("shutting down" if self._state.stopping else "store unavailable")
        else:
            self.finish("ok")


@serves(Route.PROTOCOL)
class Protocol(Handler):
    """The name of the protocol, as the ancestor answers it."""

    def initialize(self, protocol: str) -> None:
        self._protocol = protocol

    def get(self) -> None:
        self.finish(self._protocol)


@serves(Route.REJECTED)
class RejectedEvents(Handler):
    """The latest refused events, newest first: time, reason and ids."""

    def initialize(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def get(self) -> None:
        self.write_json(self._ingest.rejections.latest())
