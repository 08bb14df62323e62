"""The server's own counters, in a registry of their own, and its log of outages. Kept in this process, so per replica:
dashboards sum the counters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from metrics_server import __version__
from metrics_server.errors import Reason
from metrics_server.metrics.labels import DroppedMetric, EventKind, LabelStatus, Outcome
from metrics_server.store.interface import Sharing

# Of events, as they are counted: one whose truth waits was accepted.
COUNTED: tuple[Outcome, ...] = tuple(outcome for outcome in Outcome if outcome is not Outcome.PENDING)
REPLY_OUTCOMES = ("delivered", "refused", "failed", "dropped")
LOOK_UP_OUTCOMES = ("found", "miss", "failed", "dropped")
SCRAPE_REFUSALS = ("crowded", "late", "stopping")  # why a turn does not come: see http.worker_pools
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
COMMIT_EVENTS = (1, 3, 10, 30, 100, 300, 1000, 3000)


class RequestTally(NamedTuple):
    """Requests of a deployment that a response followed in time, and those that none did."""

    answered: int = 0
    unanswered: int = 0


class Telemetry(Collector):
    """All `metrics_server_` series. Every label set that can occur is there from the start, at 0, but for those of
    deployments.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.exposed = registry  # what a scrape gets: of all workers, where there are several
        self._events = dict.fromkeys(((kind, outcome) for kind in EventKind for outcome in COUNTED), 0)
        self._rejected = dict.fromkeys(Reason, 0)
        replies = Counter("metrics_server_replies", "Reply events sent to --reply_url.", ["outcome"], registry=registry)
        look_ups = Counter(
            "metrics_server_lookups", "Predictions looked up in Elasticsearch.", ["outcome"], registry=registry
        )
        registry.register(self)
        self.followed_requests: Mapping[tuple[str, str], RequestTally] = {}  # by namespace and name of a deployment
        self.replies = {outcome: replies.labels(outcome) for outcome in REPLY_OUTCOMES}
        self.look_ups = {outcome: look_ups.labels(outcome) for outcome in LOOK_UP_OUTCOMES}
        self._register_requests()
        self._register_pairing()
        self._register_custom_metrics()
        self._register_store()

    def _register_requests(self) -> None:
        self.clamped = self._counter(
            "clamped_times", "Events whose time lay more than 5 minutes ahead; taken as received now."
        )
        self.refused_connections = self._counter(
            "refused_connections", "Connections closed at once, beyond --max_connections."
        )
        self.slow_readers = self._counter(
            "slow_readers", "Connections cut because their client did not read its answer."
        )
        refused = Counter(
            "metrics_server_refused_scrapes",
            "Scrapes of /v1/metrics answered 503: too many waited (crowded), its turn came after 10 s (late), or the"
            " server was stopping.",
            ["reason"],
            registry=self.registry,
        )
        self.refused_scrapes = {reason: refused.labels(reason) for reason in SCRAPE_REFUSALS}
        self.dropped_log_lines = self._counter(
            "dropped_log_lines", "Lines of the log dropped because standard error was not read."
        )

    def _register_pairing(self) -> None:
        self.erased_requests = self._counter("erased_requests", "Requests erased by DELETE /v1/requests/….")
        self.queue_events = self._gauge("queue_events", "Events waiting to be applied.")
        self.pending_predictions = self._gauge("pending_predictions", "Rows of the request log that wait for a truth.")
        self.pending_truths = self._gauge("pending_truths", "Rows of truth that wait for a prediction.")
        self.oldest_pending_seconds = self._gauge(
            "oldest_pending_seconds",
            (
                "Age of the oldest row that waits, to a second; of one received before the start up to a quarter of an"
                " hour less. 0 when none does."
            ),
        )
        self.overdue_truths = self._gauge(
            "overdue_truths",
            (
                "Rows of truth that have waited for an hour, and up to a quarter of one more, under an id that no"
                " prediction has."
            ),
        )
        self.horizon_seconds = self._gauge(
            "pending_horizon_seconds",
            (
                "How far back predictions and truths are kept: --retention, "
                "or less after --max_pending made the oldest go."
            ),
        )
        dropped = Counter(
            "metrics_server_dropped_rows",
            "Rows dropped while they waited, by kind and cause.",
            ["kind", "cause"],
            registry=self.registry,
        )
        self.dropped_rows = {
            pair: dropped.labels(*pair)
            for pair in product(("prediction", "truth"), (LabelStatus.EXPIRED, LabelStatus.EVICTED))
        }

    def _register_custom_metrics(self) -> None:
        dropped = Counter(
            "metrics_server_dropped_custom_metrics",
            "Custom metrics of accepted responses that were dropped, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._dropped_metrics = {reason: dropped.labels(reason) for reason in DroppedMetric}

    def count_dropped_metrics(self, dropped: Mapping[DroppedMetric, int]) -> None:
        """Counts custom metrics that were dropped."""
        for reason, count in dropped.items():
            self._dropped_metrics[reason].inc(count)

    def _register_store(self) -> None:
        self.commit_seconds = self._histogram(
            "commit_seconds", "Time to apply one batch of events durably.", COMMIT_SECONDS
        )
        self.commit_events = self._histogram("commit_events", "Events applied in one batch.", COMMIT_EVENTS)
        self.series = self._gauge("series", "Series in the store.")
        self.state_bytes = self._gauge("state_bytes", "Size of the stored state.")
        self.store_up = self._gauge("store_up", "Whether the last use of the store succeeded.")
        self.store_up.set(1)
        build = Gauge(
            "metrics_server_build_info",
            "Constantly 1, with the version of this server.",
            ["version"],
            registry=self.registry,
        )
        build.labels(__version__).set(1)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"metrics_server_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"metrics_server_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"metrics_server_{name}", text, buckets=buckets, registry=self.registry)

    def answered(self, kind: EventKind, outcome: Outcome, reason: Reason | None = None) -> None:
        """Counts an event at the moment its answer is known. Called in the event loop only."""
        self._events[kind, outcome] += 1
        if reason is not None:
            self._rejected[reason] += 1

    def collect(self) -> Iterable[Metric]:
        """The counts of events, all of one moment: what was received is always the sum of the outcomes."""
        events, refusals = dict(self._events), dict(self._rejected)
        by_kind = CounterMetricFamily(
            "metrics_server_received", "Events answered, by what they are about.", labels=["type"]
        )
        for kind in EventKind:
            by_kind.add_metric([kind], sum(events[kind, outcome] for outcome in COUNTED))
        yield by_kind
        by_outcome = CounterMetricFamily(
            "metrics_server_events", "Events answered, by what became of them.", labels=["type", "outcome"]
        )
        for labels, count in events.items():
            by_outcome.add_metric(labels, count)
        yield by_outcome
        by_reason = CounterMetricFamily("metrics_server_rejected", "Events refused, by reason.", labels=["reason"])
        for reason, count in refusals.items():
            by_reason.add_metric([reason.label], count)
        yield by_reason
        yield self._by_deployment()

    def _by_deployment(self) -> Metric:
        family = CounterMetricFamily(
            "metrics_server_followed_requests",
            "Requests whose response was waited for, by whether it came within 5 minutes. Of the first 100 deployments,"
            " and of each of up to 1000 requests at a time.",
            labels=["deployment_namespace", "deployment_name", "outcome"],
        )
        for deployment, tally in self.followed_requests.items():
            for outcome, count in tally._asdict().items():
                family.add_metric([*deployment, outcome], count)
        return family


class KafkaTelemetry(Collector):
    """What a Kafka consumer tells besides: in the registry of a server that has one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.errors = Counter(
            "metrics_server_kafka_errors", "Errors of the Kafka consumer and of its connections.", registry=registry
        )
        self.lag: int | None = None  # set in the consumer's thread; None while nothing is known
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The lag, where it is known."""
        lag = GaugeMetricFamily(
            "metrics_server_kafka_lag_records",
            "Records in the partitions of this consumer that are not durably applied yet.",
        )
        if self.lag is not None:
            lag.add_metric([], self.lag)
        yield lag


class SharingTelemetry(Collector):
    """What a server tells of a store that it shares with others: in the registry of a server that does."""

    def __init__(
        self, sharing: Sharing, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sharing = sharing
        self._clock = clock
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All of them, with ages as of now."""
        sharing, now = self._sharing, self._clock()
        yield GaugeMetricFamily(
            "metrics_server_shared_store_lag_seconds",
            "Time since this server last took what the others have committed: the age of the values that it shows.",
            now - sharing.caught_up_at,
        )
        yield GaugeMetricFamily(
            "metrics_server_shared_store_upkeep_age_seconds",
            "Time since this server last did the upkeep of the store. Of all servers one does it, so the least counts.",
            now - sharing.upkeep_at,
        )
        yield GaugeMetricFamily(
            "metrics_server_shared_store_clock_offset_seconds",
            "How much the database's clock, by which all servers go, is ahead of this machine's; to 0.25 s.",
            sharing.clock_offset,
        )
        yield GaugeMetricFamily(
            "metrics_server_shared_store_unfolded_commits",
            "Commits of all servers that the upkeep has not added up yet. Reading takes longer, the more there are.",
            sharing.unfolded,
        )
        yield CounterMetricFamily(
            "metrics_server_shared_store_conflicts",
            "Commits of this server that were computed again, because another had come first.",
            sharing.conflicts,
        )


def all_families() -> list[Metric]:
    """Returns every family that a server can tell of itself, whatever it is started with."""
    telemetry = Telemetry()
    telemetry.followed_requests = {("", ""): RequestTally()}  # or its labels would not show
    KafkaTelemetry(telemetry.registry)
    SharingTelemetry(Sharing(), telemetry.registry)
    return list(telemetry.registry.collect())


class OutageLog:
    """Logs once that something fails, and once that it is back, however often either is noted.

    Causes are told apart where one may end without the other, such as a broker that is away and a topic that may not be
    read. Used in one thread.

    Args:
        logger: of the module that the lines are from.
        level: of the line that it fails.
    """

    def __init__(self, logger: logging.Logger, level: int = logging.WARNING) -> None:
        self._logger = logger
        self._level = level
        self._open: set[str] = set()

    def note_failure(self, message: str, *args: object, cause: str = "") -> None:
        """Logs a failure, unless its cause was logged and is not over."""
        if cause not in self._open:
            self._open.add(cause)
            self._logger.log(self._level, message, *args)

    def note_success(self, message: str, *args: object, causes: Collection[str] = ("",)) -> None:
        """Ends the outages of these causes, and logs it if there was one."""
        if not self._open.isdisjoint(causes):
            self._open.difference_update(causes)
            self._logger.info(message, *args)
