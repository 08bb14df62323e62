"""The server put together: store, catalog, writer, routes, and its life from start to drained."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

from tornado.ioloop import PeriodicCallback
from tornado.web import Application

from metrics_server.api import worker_counts
from metrics_server.api.exposition import AncestorLabels, Exposition
from metrics_server.api.exposure import Exposure
from metrics_server.api.gauges import Gauge, objective_gauges, verdict_gauges
from metrics_server.api.group_gauges import GroupGauges
from metrics_server.api.groups import GroupReports
from metrics_server.api.handlers import EventTarget, State
from metrics_server.api.openapi import document
from metrics_server.api.routes import HANDLERS, Route
from metrics_server.api.service import Api
from metrics_server.api.verdict import Decision, KeptVerdicts, Verdicts
from metrics_server.api.worker_counts import WorkerCounts
from metrics_server.errors import BadConfiguration
from metrics_server.http.access import Access
from metrics_server.http.certificate import Certificates, Clients
from metrics_server.http.connection import HttpServer
from metrics_server.http.handler import Handler, NotFound
from metrics_server.http.prefork import WorkerPlace
from metrics_server.http.token import TokenFile, Tokens, token_file
from metrics_server.http.watched_files import EVERY_SECONDS as LOOK_SECONDS
from metrics_server.http.watched_files import WatchedFiles
from metrics_server.http.worker_pools import SharedPages, WorkerPools
from metrics_server.ingest.elasticsearch.lookup import PredictionLookup, address_of, checked_index, tls_of
from metrics_server.ingest.kafka.config import configuration, topics
from metrics_server.ingest.pipeline import Ingest
from metrics_server.ingest.reply import Forwarder, Replies
from metrics_server.ingest.router import Gate, Router
from metrics_server.ingest.slicing import SlicingRules, dimensions_of
from metrics_server.ingest.trace import trace_id_of, untraced
from metrics_server.metrics.window import seconds_of
from metrics_server.pairing.batch import Retention
from metrics_server.pairing.exemplar import Exemplars
from metrics_server.pairing.objectives import Objectives
from metrics_server.pairing.usage import UsageLimits
from metrics_server.pairing.writer import OnResult, SubmissionResult, Writer
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import model_at
from metrics_server.series.objective import Objective
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.settings import Settings, reloaded
from metrics_server.store.interface import Store
from metrics_server.telemetry import KafkaTelemetry, SharingTelemetry, Telemetry
from metrics_server.web.handlers import Site
from metrics_server.web.self_sampler import EVERY_SECONDS, SelfSampler

if TYPE_CHECKING:  # the driver is an extra
    from metrics_server.ingest.kafka.consumer import KafkaConsumer

logger = logging.getLogger(__name__)

ASKED_SECONDS = 2.0  # at most, of the time to drain, for the answers of the JSON API
TOKEN_OPTIONS = ("token_file", "send_token_file", "read_token_file", "delete_token_file")
LOOK_UP_SECONDS = 2.0  # at most, of the time to drain, for look-ups that wait: nobody does for their answers


class Server:
    """One metrics server on an open store. Made in the event loop that it runs in."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        defaults: Labels,
        ancestor: AncestorLabels,
        elastic_key: str = "",
        *,
        worker: WorkerPlace | None = None,
        config: WatchedFiles[Settings] | None = None,
    ) -> None:
        """`worker` is the place of this process among those that share its port; None if it has the port alone.
        `config` reads the settings again when the configuration file changes.
        """
        self._settings = settings
        self._config = config
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._state = State()
        self._telemetry = Telemetry()
        if store.sharing is not None:
            SharingTelemetry(store.sharing, self._telemetry.registry)
        self._sampler = SelfSampler(self._telemetry)
        self._is_worker = worker is not None
        self._periodic = [
            PeriodicCallback(self._sampler.sample, EVERY_SECONDS * 1000),
            PeriodicCallback(self._refresh_files, LOOK_SECONDS * 1000),
        ]
        if worker is not None:
            self._share_counts(worker)
        exported = settings.max_exported_classes
        self._build = partial(model_at, max_exported_classes=exported, allow_pickle=settings.allow_pickle)
        self._registry = SeriesRegistry(settings.scoring_of, self._build, settings.max_series, settings.max_slices)
        self._windows = {window: seconds_of(window) for window in settings.windows}
        self._totals = Totals(self._windows)
        self._evaluator = self._make_evaluator()
        self._objectives = Objectives(store, self._registry, self._totals, self._evaluator, self._current_objectives_of)
        self._exemplars = Exemplars() if settings.exemplars else None
        self._writer = self._make_writer()
        replies = _replies(settings)
        self._forwarder = Forwarder(settings.reply_url, self._telemetry) if settings.reply_url and replies else None
        self._lookup = self._elasticsearch(elastic_key) if settings.elasticsearch_uri else None
        self._ingest = self._make_ingest(defaults, replies)
        self._kafka = self._consumer() if settings.kafka_brokers else None
        self._token_files = _token_files(settings)
        self._certificates = _certificates(settings)
        self.access = _access(self._token_files, settings)
        self._gate = Gate(self._ingest, **_body_limits(settings), access=self.access)
        self._pools = WorkerPools()
        self._http = self._make_http(self._router(self._application(*self._views(ancestor))))

    async def _refresh_files(self) -> None:
        """Looks at the files that may change while the server runs."""
        watched: list[WatchedFiles[Any]] = [*self._token_files.values()]
        if self._certificates is not None:
            watched.append(self._certificates)
        for files in watched:
            await files.refresh()
        await self.reload(anyhow=False)

    async def reload(self, *, anyhow: bool = True) -> None:
        """Takes what may change while the server runs from the configuration file, if that has changed or `anyhow`."""
        if self._config is None or not await self._config.refresh(anyhow=anyhow):
            return
        self._settings, taken, waiting = reloaded(self._settings, self._config.content)
        if taken:
            self._take_over()
            logger.info("Taken from the configuration file: %s", ", ".join(taken))
        if waiting:
            logger.warning("Changed in the configuration file, and taken at the next start: %s", ", ".join(waiting))
        if not taken and not waiting:
            logger.info("The configuration file changes nothing")

    def _take_over(self) -> None:
        """Has the settings that may change taken where they were handed on; others are asked for when they count."""
        settings = self._settings
        self._ingest.rules_of = settings.sender_rules(self._build)
        self._evaluator.min_support = settings.min_support
        self._evaluator.value_matrix_of = settings.value_matrices()
        self.access.clients.senders = frozenset(settings.tls_clients)
        logging.getLogger().setLevel(settings.log_level.upper())
        self._exposition.forget()

    def _share_counts(self, worker: WorkerPlace) -> None:
        """Lets any worker tell what all have counted."""
        counts = WorkerCounts(self._telemetry.registry, worker.directory, worker.number)
        self._telemetry.exposed = counts.registry
        self._periodic.append(PeriodicCallback(counts.write, worker_counts.EVERY_SECONDS * 1000))

    def _make_evaluator(self) -> Evaluator:
        settings = self._settings
        return Evaluator(
            settings.max_exported_classes,
            settings.min_support,
            custom_metrics_of=self._current_custom_metrics_of,
            value_matrix_of=settings.value_matrices(),
        )

    def _make_writer(self) -> Writer:
        settings = self._settings
        return Writer(
            self._store,
            self._registry,
            self._totals,
            self._telemetry,
            Retention(
                seconds_of(settings.history), seconds_of(settings.retention), seconds_of(settings.dedupe_retention)
            ),
            max_queue=settings.max_queue_events,
            series_retention=seconds_of(settings.series_retention),
            limits=UsageLimits(settings.max_pending, settings.max_pending_bytes, settings.max_dedupe_keys),
            deliver_results=self._deliver,
            objectives=self._objectives,
            exemplars=self._exemplars,
        )

    def _make_ingest(self, defaults: Labels, replies: Replies | None) -> Ingest:
        settings = self._settings
        return Ingest(
            self._writer,
            self._telemetry,
            defaults,
            clock=self._store.now,
            call_soon=self._loop.call_soon,
            max_body_bytes=settings.max_body_bytes,
            slicing=SlicingRules(dimensions_of(settings.slices), frozenset(settings.score_models)),
            rules_of=settings.sender_rules(self._build),
            trace_of=trace_id_of if settings.log_format == "json" else untraced,
            has_exemplars=settings.exemplars,
            replies=replies,
            forwarder=self._forwarder,
            look_up=self._lookup.look_up if self._lookup else None,
        )

    # By the settings of the moment, which `reload` replaces.

    def _current_custom_metrics_of(self, labels: Labels) -> frozenset[str]:
        return self._settings.custom_metrics_of(labels)

    def _current_exposure_of(self, labels: Labels) -> Exposure:
        return self._settings.exposure_of(labels)

    def _current_baseline(self, labels: Labels) -> str | None:
        return self._settings.declared_baseline(labels)

    def _current_objectives_of(self, labels: Labels) -> list[Objective]:
        return self._settings.objectives_of(labels)

    def _current_decision_of(self, labels: Labels) -> Decision:
        return self._settings.decision_of(labels)

    def _current_group_references(self, labels: Labels) -> dict[str, str]:
        return self._settings.group_references_of(labels)

    def _judged(self, verdicts: KeptVerdicts, groups: GroupGauges) -> Iterator[Gauge]:
        """Yields what is said of series beside their sums."""
        yield from verdict_gauges(verdicts)
        yield from objective_gauges(self._registry, self._objectives.states_of)
        if self._settings.expose_groups:
            yield from groups.read()

    def _elasticsearch(self, key: str) -> PredictionLookup:
        settings = self._settings
        address, index = address_of(settings.elasticsearch_uri, key), checked_index(settings.elasticsearch_index)
        return PredictionLookup(address, index, tls_of(settings.elasticsearch_ca), self._telemetry)

    def _consumer(self) -> KafkaConsumer:
        try:
            from metrics_server.ingest.kafka.consumer import KafkaConsumer
        except ImportError as error:
            raise BadConfiguration(
                f"--kafka_brokers needs the extra kafka, the package confluent-kafka: {error}"
            ) from error
        settings, telemetry = self._settings, KafkaTelemetry(self._telemetry.registry)
        config = configuration(settings.kafka_brokers, settings.kafka_group, settings.kafka_config)
        return KafkaConsumer(config, topics(settings.kafka_topic), self._ingest, telemetry, **_body_limits(settings))

    def _views(self, ancestor: AncestorLabels) -> tuple[Exposition, Api]:
        """Tells what shows the numbers: the page for Prometheus and the JSON API, by one reader."""
        settings = self._settings
        evaluator = self._evaluator
        shared = self._registry, self._totals
        verdicts = Verdicts(
            *shared,
            evaluator,
            self._store,
            history=seconds_of(settings.history),
            declared_baseline=self._current_baseline,
            decision_of=self._current_decision_of,
            clock=self._store.now,
        )
        groups = GroupReports(*shared, evaluator, self._current_group_references)
        self._exposition = exposition = Exposition(
            *shared,
            self._telemetry,
            ancestor,
            seldon_metrics=settings.seldon_metrics,
            evaluator=evaluator,
            exposure_of=self._current_exposure_of,
            judged=partial(self._judged, KeptVerdicts(verdicts), GroupGauges(*shared, groups, list(self._windows))),
            exemplars=self._exemplars,
        )
        return exposition, Api(
            *shared,
            evaluator,
            self._store,
            self._telemetry,
            group_reports=groups,
            windows=self._windows,
            history=seconds_of(settings.history),
            verdicts=verdicts,
            objectives_of=self._objectives.states_of,
            catch_up=self._writer.catch_up,
        )

    def _router(self, application: Application) -> Router:
        accepts = {route.pattern: route.accept for route in Route if route.accept is not None}
        served = [route.pattern for route in Route]
        return Router(self._gate, application, accepts, served, _free(self._settings.events_prefix))

    def _application(self, exposition: Exposition, api: Api) -> Application:
        parts = self._parts(exposition, api)
        rows: list[tuple[str, type[Handler], dict[str, Any]]] = [
            (route.pattern, HANDLERS[route], {name: parts[name] for name in _wanted(HANDLERS[route])})
            for route in Route
        ]
        if prefix := self._settings.events_prefix:
            rows.append((f"{re.escape(prefix)}(?:/.*)?", EventTarget, {}))
        return Application(
            rows,
            default_handler_class=NotFound,
            log_function=lambda handler: None,  # what failed is counted, and logged where it failed
            access=self.access,
        )

    def _make_http(self, router: Router) -> HttpServer:
        return HttpServer(
            router.route,
            router.refused,
            crowded=self._telemetry.refused_connections.inc,
            cut=self._telemetry.slow_readers.inc,
            max_connections=self._settings.max_connections,
        )

    def _parts(self, exposition: Exposition, api: Api) -> dict[str, Any]:
        """Tells what handlers may ask for, by the names that they have for it."""
        wants_token = self.access.sending.are_wanted
        guarded = {"sender": wants_token, "reader": self.access.reading.are_wanted}
        seen = api, self._telemetry, self._sampler, self._ingest.rejections
        return {
            "api": api,
            "document": document(
                self._settings.windows, guarded=[who for who, is_asked in guarded.items() if is_asked]
            ),
            "exposition": exposition,
            "gate": self._gate,
            "ingest": self._ingest,
            "pages": SharedPages(self._pools.scrapes),
            "pools": self._pools,
            "protocol": self._settings.protocol,
            "site": Site(*seen, windows=self._windows, wants_token=wants_token, is_store_up=lambda: self._writer.is_up),
            "state": self._state,
            "telemetry": self._telemetry,
            "writer": self._writer,
        }

    def _deliver(self, results: list[tuple[OnResult, Sequence[SubmissionResult]]]) -> None:
        """Takes the results of a batch from the writer's thread to the event loop."""
        with suppress(RuntimeError):  # the loop has ended: after --drain_seconds nobody waits any more
            self._loop.call_soon_threadsafe(_deliver_all, results)

    async def start(self) -> None:
        """Reads the state, then listens.

        Raises:
            StoreUnavailable: the state cannot be read.
            BadConfiguration: a metric model cannot be loaded, or the address cannot be listened on.
        """
        for path in self._settings.model_paths:
            self._build(path, {})  # a model that cannot be loaded stops the start, not the first event
        self._writer.start()
        for periodic in self._periodic:
            periodic.start()
        try:
            await self._listen()
        except BadConfiguration:
            self._writer.stop()
            raise
        if self._forwarder is not None:
            self._forwarder.start()
        if self._kafka is not None:
            self._kafka.start()
        if self._lookup is not None:
            self._lookup.start(self._ingest.accept_event)

    async def _listen(self) -> None:
        host, port = self._settings.host, self._settings.http_port
        try:
            context = None if self._certificates is None else self._certificates.current
            await self._http.listen(host, port, context, is_shared=self._is_worker)
        except OSError as error:
            raise BadConfiguration(f"--host {host} --http_port {port}: {error.strerror}") from error

    async def stop(self) -> bool:
        """Serves for the shutdown delay, then takes no more, applies and answers what was received; says whether all
        was.
        """
        self._state.stopping = True
        for periodic in self._periodic:
            periodic.stop()
        await asyncio.sleep(self._settings.shutdown_delay)
        deadline = self._loop.time() + self._settings.drain_seconds
        if self._kafka is not None:
            self._kafka.stop()
        self._http.drain()
        pools = asyncio.create_task(self._pools.stop(min(ASKED_SECONDS, self._settings.drain_seconds)))
        drained = await self._drain(deadline)
        if self._forwarder is not None:
            self._forwarder.stop()
        await pools
        self._http.close()
        if drained:
            self._store.close()
        return drained and not self._is_busy

    async def _drain(self, deadline: float) -> bool:
        """Applies and answers what was received, in the order that it goes in; says whether the writer has ended."""

        def left() -> float:
            return max(0.1, deadline - self._loop.time())

        while self._is_busy and self._loop.time() < deadline:  # noqa: ASYNC110 - a counter of the hot path, looked at once
            await asyncio.sleep(0.01)
        if self._lookup is not None:
            await self._lookup.stop(min(LOOK_UP_SECONDS, left()))
        drained = await self._loop.run_in_executor(None, self._writer.stop, left())
        await asyncio.sleep(0)  # what the writer has just delivered is answered
        if self._kafka is not None:
            await self._loop.run_in_executor(None, self._kafka.join, left())
        return drained

    def count_dropped_log_lines(self, lines: int) -> None:
        """Counts lines of the log that were never written; may be called in any thread."""
        self._telemetry.dropped_log_lines.inc(lines)

    @property
    def _is_busy(self) -> bool:
        """Tells whether something received is not answered yet, by a server that takes no more."""
        return bool(self._gate.open_requests) or (self._kafka is not None and not self._kafka.is_drained)


def _free(prefix: str) -> str:
    """The path below which events are taken, if no route has it."""
    if any(re.fullmatch(route.pattern, prefix) for route in Route):
        raise BadConfiguration(f"--events_prefix {prefix}: the server has a route there; want another path")
    return prefix


def _wanted(handler: type[Handler]) -> list[str]:
    """The parts of the server that a handler asks for, by the names of its `initialize`."""
    return [name for name in signature(handler.initialize).parameters if name != "self"]


def _deliver_all(results: list[tuple[OnResult, Sequence[SubmissionResult]]]) -> None:
    for on_result, result in results:
        try:
            on_result(result)
        except Exception:  # one answer that cannot be given must not keep back the others
            logger.exception("An answer could not be given")


def _certificates(settings: Settings) -> Certificates | None:
    if not settings.tls_cert:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def _token_files(settings: Settings) -> dict[str, TokenFile]:
    """The files with tokens, by the options that name them."""
    named = {option: getattr(settings, option) for option in TOKEN_OPTIONS}
    return {option: token_file(option, path) for option, path in named.items() if path}


def _body_limits(settings: Settings) -> dict[str, int]:
    return {"max_body_bytes": settings.max_body_bytes, "max_bodies_bytes": settings.max_bodies_bytes}


def _replies(settings: Settings) -> Replies | None:
    has_replies = settings.event_type and settings.event_source
    return Replies(settings.event_type, settings.event_source) if has_replies else None


def _access(files: Mapping[str, TokenFile], settings: Settings) -> Access:
    def tokens(*options: str) -> Tokens:
        return Tokens(*(files[option] for option in options if option in files))

    return Access(
        sending=tokens("token_file", "send_token_file"),
        reading=tokens("read_token_file"),
        retiring=tokens("token_file", "delete_token_file"),
        clients=Clients(are_verified=bool(settings.tls_client_ca), senders=settings.tls_clients),
    )
