"""The server's own counters, in a registry of their own. Kept in this process, so per replica: dashboards sum them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from metrics_server import __version__
from metrics_server.errors import Reason
from metrics_server.event import FEEDBACK, OTHER, REQUEST, RESPONSE, UNKNOWN

KINDS = (REQUEST, RESPONSE, FEEDBACK, OTHER, UNKNOWN)
ACCEPTED, DUPLICATE, IGNORED, REJECTED, UNAVAILABLE = "accepted", "duplicate", "ignored", "rejected", "unavailable"
OUTCOMES = (ACCEPTED, DUPLICATE, IGNORED, REJECTED, UNAVAILABLE)
REPLY_OUTCOMES = ("delivered", "refused", "failed", "dropped")
LOOK_UP_OUTCOMES = ("found", "miss", "failed", "dropped")
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
COMMIT_EVENTS = (1, 3, 10, 30, 100, 300, 1000, 3000)


class Telemetry(Collector):
    """All `metrics_server_` series. Every label set that can occur is there from the start, at 0."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        replies = Counter("metrics_server_replies", "Reply events sent to --reply_url.", ["outcome"], registry=registry)
        look_ups = Counter("metrics_server_lookups", "Predictions looked up in Elasticsearch.", ["outcome"], registry=registry)
        self._events = dict.fromkeys(((kind, outcome) for kind in KINDS for outcome in OUTCOMES), 0)
        self._rejected = dict.fromkeys(Reason, 0)
        registry.register(self)
        self.replies = {outcome: replies.labels(outcome) for outcome in REPLY_OUTCOMES}
        self.look_ups = {outcome: look_ups.labels(outcome) for outcome in LOOK_UP_OUTCOMES}
        self.clamped = Counter(
            "metrics_server_clamped_times", "Events whose time lay more than 5 minutes ahead; taken as received now.", registry=registry
        )
        self.refused_connections = Counter(
            "metrics_server_refused_connections", "Connections closed at once, beyond --max_connections.", registry=registry
        )
        self.commit_seconds = Histogram(
            "metrics_server_commit_seconds", "Time to apply one group of events durably.", buckets=COMMIT_SECONDS, registry=registry
        )
        self.commit_events = Histogram(
            "metrics_server_commit_events", "Events applied in one group.", buckets=COMMIT_EVENTS, registry=registry
        )
        self.queue_events = Gauge("metrics_server_queue_events", "Events waiting to be applied.", registry=registry)
        self.pending_predictions = Gauge(
            "metrics_server_pending_predictions", "Rows of the request log that wait for a truth.", registry=registry
        )
        self.pending_truths = Gauge("metrics_server_pending_truths", "Rows of truth that wait for a prediction.", registry=registry)
        self.oldest_pending_seconds = Gauge(
            "metrics_server_oldest_pending_seconds",
            "Age of the oldest row that waits, to a quarter of an hour; 0 when none does.",
            registry=registry,
        )
        self.horizon_seconds = Gauge(
            "metrics_server_pending_horizon_seconds",
            "How far back predictions and truths are kept: --retention, or less after --max_pending made the oldest go.",
            registry=registry,
        )
        forgotten = Counter(
            "metrics_server_forgotten", "Rows forgotten while they waited, by half and cause.", ["half", "cause"], registry=registry
        )
        self.forgotten = {pair: forgotten.labels(*pair) for pair in product(("prediction", "truth"), ("expired", "evicted"))}
        self.series = Gauge("metrics_server_series", "Series in the store.", registry=registry)
        self.state_bytes = Gauge("metrics_server_state_bytes", "Size of the stored state.", registry=registry)
        self.store_up = Gauge("metrics_server_store_up", "Whether the last use of the store succeeded.", registry=registry)
        build = Gauge("metrics_server_build_info", "Constantly 1, with the version of this server.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.store_up.set(1)

    def answered(self, kind: str, outcome: str, reason: Reason | None = None) -> None:
        """Counts an event at the moment its answer is known. Called in the event loop only."""
        self._events[kind, outcome] += 1
        if reason is not None:
            self._rejected[reason] += 1

    def collect(self) -> Iterable[Metric]:
        """The counts of events, all of one moment: what was received is always the sum of the outcomes."""
        events, refusals = dict(self._events), dict(self._rejected)
        by_kind = CounterMetricFamily("metrics_server_received", "Events answered, by what they are about.", labels=["type"])
        for kind in KINDS:
            by_kind.add_metric([kind], sum(events[kind, outcome] for outcome in OUTCOMES))
        yield by_kind
        by_outcome = CounterMetricFamily("metrics_server_events", "Events answered, by what became of them.", labels=["type", "outcome"])
        for labels, count in events.items():
            by_outcome.add_metric(labels, count)
        yield by_outcome
        by_reason = CounterMetricFamily("metrics_server_rejected", "Events refused, by reason.", labels=["reason"])
        for reason, count in refusals.items():
            by_reason.add_metric([reason.label], count)
        yield by_reason


class KafkaTelemetry(Collector):
    """What a Kafka consumer tells besides: in the registry of a server that has one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.errors = Counter("metrics_server_kafka_errors", "Errors of the Kafka consumer and of its connections.", registry=registry)
        self.lag: int | None = None  # set in the consumer's thread; None while nothing is known
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The lag, where it is known."""
        lag = GaugeMetricFamily(
            "metrics_server_kafka_lag_records", "Records in the partitions of this consumer that are not durably applied yet."
        )
        if self.lag is not None:
            lag.add_metric([], self.lag)
        yield lag
