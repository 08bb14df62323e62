"""The server put together: store, catalog, writer, routes, and its life from start to drained."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.web import Application

from metrics_server.delegate import Gate, Router
from metrics_server.errors import BadConfiguration
from metrics_server.exposition import AncestorLabels, Exposition
from metrics_server.group import Keeping
from metrics_server.handlers import Healthz, Metrics, NotFound, Protocol, Readyz, RejectedEvents, Root, State
from metrics_server.ingest import Ingest
from metrics_server.model import MetricModel, load
from metrics_server.reply import Forwarder, Replies
from metrics_server.series import Catalog, Labels
from metrics_server.settings import Settings
from metrics_server.store.interface import Store
from metrics_server.telemetry import Telemetry
from metrics_server.totals import Totals
from metrics_server.window import seconds_of
from metrics_server.writer import Done, Settled, Writer

IDLE_SECONDS = 120.0  # Tornado's header timeout is also its keep-alive timer; Go's clients keep connections for 90 s
BODY_SECONDS = 10.0
TORNADO_HEADER_BYTES = 64 * 2**10
TORNADO_BODY_FACTOR = 16  # Tornado's limit above ours: so far a body that is too large is read, and answered properly


class Server:
    """One metrics server on an open store. Made in the event loop that it runs in."""

    def __init__(self, settings: Settings, store: Store, defaults: Labels, ancestor: AncestorLabels) -> None:
        self._settings = settings
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._state = State()
        self._telemetry = Telemetry()
        self._catalog = Catalog(settings.scoring_of, self._build, settings.max_series)
        self._totals = Totals({window: seconds_of(window) for window in settings.windows})
        self._writer = Writer(
            store,
            self._catalog,
            self._totals,
            self._telemetry,
            Keeping(*(seconds_of(kept) for kept in (settings.history, settings.retention, settings.dedupe_retention))),
            max_queue=settings.max_queue_events,
            series_retention=seconds_of(settings.series_retention),
            deliver=self._deliver,
        )
        replies = Replies(settings.event_type, settings.event_source) if settings.event_type and settings.event_source else None
        self._forwarder = Forwarder(settings.reply_url, self._telemetry) if settings.reply_url and replies else None
        self._ingest = Ingest(
            self._writer,
            self._telemetry,
            defaults,
            max_body_bytes=settings.max_body_bytes,
            replies=replies,
            forwarder=self._forwarder,
        )
        self._gate = Gate(
            self._ingest,
            max_body_bytes=settings.max_body_bytes,
            max_bodies_bytes=settings.max_bodies_bytes,
            token=_token(settings.token_file),
        )
        exposition = Exposition(self._catalog, self._totals, self._telemetry, ancestor if settings.seldon_metrics else None)
        self._http = _limited_server(settings, Router(self._gate, self._application(exposition)))

    def _build(self, path: str, parameters: Mapping[str, object]) -> MetricModel:
        exported = {"max_exported_classes": self._settings.max_exported_classes}
        return load(path, {**parameters, **exported}, allow_pickle=self._settings.allow_pickle)

    def _application(self, exposition: Exposition) -> Application:
        return Application(
            [
                ("/", Root),
                ("/v1/metrics", Metrics, {"exposition": exposition}),
                ("/metrics", Metrics, {"exposition": exposition}),
                ("/v1/rejected", RejectedEvents, {"ingest": self._ingest}),
                ("/healthz", Healthz),
                ("/readyz", Readyz, {"writer": self._writer, "state": self._state}),
                ("/protocol", Protocol, {"protocol": self._settings.protocol}),
            ],
            default_handler_class=NotFound,
            log_function=lambda handler: None,  # what failed is counted, and logged where it failed
        )

    def _deliver(self, outcomes: list[tuple[Done, Settled]]) -> None:
        """Takes the outcomes of a group from the writer's thread to the event loop."""
        self._loop.call_soon_threadsafe(_deliver_all, outcomes)

    def start(self) -> None:
        """Reads the state, then listens.

        Raises:
            StoreUnavailable: the state cannot be read.
            BadConfiguration: a metric model cannot be loaded, or the address cannot be listened on.
        """
        for uri in {entry.storage_uri for entry in self._settings.deployments} | {self._settings.storage_uri}:
            if uri not in (None, "", "auto"):
                self._build(str(uri), {})  # a model that cannot be loaded stops the start, not the first event
        try:
            sockets = bind_sockets(self._settings.http_port, self._settings.host, backlog=1024)
        except OSError as error:
            raise BadConfiguration(f"--host {self._settings.host} --http_port {self._settings.http_port}: {error.strerror}") from error
        self._writer.start()
        self._http.add_sockets(sockets)
        if self._forwarder is not None:
            self._forwarder.start()

    async def stop(self) -> bool:
        """Serves for the shutdown delay, then takes no more, applies and answers what was received; says whether all was."""
        self._state.stopping = True
        await asyncio.sleep(self._settings.shutdown_delay)
        deadline = self._loop.time() + self._settings.drain_seconds
        self._gate.draining = True
        self._http.stop()
        while self._gate.open_requests and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        left = max(0.1, deadline - self._loop.time())
        drained = await self._loop.run_in_executor(None, self._writer.stop, left)
        await asyncio.sleep(0)  # what the writer has just delivered is answered
        if self._forwarder is not None:
            self._forwarder.stop()
        await self._http.close_all_connections()
        if drained:
            self._store.close()
        return drained and not self._gate.open_requests


def _deliver_all(outcomes: list[tuple[Done, Settled]]) -> None:
    for done, settled in outcomes:
        done(settled)


class _LimitedServer(HTTPServer):
    """An HTTPServer that closes connections beyond a number at once, instead of running out of file descriptors."""

    max_connections = 2000
    open_connections = 0

    def handle_stream(self, stream: IOStream, address: tuple[object, ...]) -> None:
        if self.open_connections >= self.max_connections:
            stream.close()
            return
        self.open_connections += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        self.open_connections -= 1
        super().on_close(server_conn)


def _limited_server(settings: Settings, router: Router) -> _LimitedServer:
    server = _LimitedServer(
        router,
        ssl_options=_ssl_context(settings),
        max_header_size=TORNADO_HEADER_BYTES,
        max_body_size=settings.max_body_bytes * TORNADO_BODY_FACTOR,
        idle_connection_timeout=IDLE_SECONDS,
        body_timeout=BODY_SECONDS,
    )
    server.max_connections = settings.max_connections
    return server


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise BadConfiguration(f"--tls_cert {settings.tls_cert} --tls_key {settings.tls_key}: {error}") from error
    return context


def _token(path: str) -> str:
    if not path:
        return ""
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        raise BadConfiguration(f"--token_file {path}: {error.strerror}") from error
    if not token:
        raise BadConfiguration(f"--token_file {path} is empty")
    return token
