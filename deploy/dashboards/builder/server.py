"""The dashboard of the server: the events it takes and refuses, and whether its store keeps up."""

from __future__ import annotations

from deploy.dashboards.builder.assembly import Board, Row
from deploy.dashboards.builder.metric import PER_SECOND, help_of, title_of, unit_of
from deploy.dashboards.builder.panel import BAD_ABOVE_ZERO, QUARTER, THIRD, Panel, Steps, graph, now
from deploy.dashboards.builder.query import Query, own, own_rate
from deploy.dashboards.builder.variable import firing, job, source, starts

DOWN: Steps = (("red", None), ("green", 1))
COMMIT = "metrics_server_commit_seconds"
BY_OUTCOME = "{{type}} {{outcome}}"


def _rates(name: str, labels: str, legend: str, *matchers: str, span: int = THIRD) -> Panel:
    """Returns a graph of a counter per second, by its labels."""
    return graph(
        title_of(name),
        help_of(name),
        PER_SECOND,
        Query(own_rate(f"{name}_total", labels, *matchers), legend),
        span=span,
    )


def _level(name: str, aggregation: str = "max", span: int = QUARTER) -> Panel:
    """Returns a graph of a gauge. Replicas on one store have equal values, which are not added up; queues are."""
    return graph(
        title_of(name), help_of(name), unit_of(name), Query(f"{aggregation}({own(name)})", title_of(name)), span=span
    )


def _now() -> Row:
    unavailable = own_rate("metrics_server_events_total", "", 'outcome="unavailable"')
    store, rejected = "metrics_server_store_up", "metrics_server_rejected"
    began = own(f"{COMMIT}_created")
    p99 = f"histogram_quantile(0.99, {own_rate(f'{COMMIT}_bucket', 'le')})"
    return Row(
        "Now",
        [
            now(
                "Up",
                "Servers that Prometheus reaches, of those it knows.",
                "percentunit",
                f"avg({own('up')})",
                steps=DOWN,
            ),
            now("Store up", help_of(store), "short", f"min({own(store)})", steps=DOWN),
            now("Since the start", "Of the process that started last.", "s", f"time() - max({began})"),
            now("Rejected", help_of(rejected), PER_SECOND, own_rate(f"{rejected}_total"), steps=BAD_ABOVE_ZERO),
            now(
                "Answered 503",
                "Events that their senders have to send again.",
                PER_SECOND,
                unavailable,
                steps=BAD_ABOVE_ZERO,
            ),
            now("Commit, 99 %", help_of(COMMIT), "s", p99, steps=(("text", None), ("orange", 0.5), ("red", 1))),
        ],
    )


def _events() -> Row:
    return Row(
        "Events",
        [
            _rates("metrics_server_received", "type", "{{type}}"),
            _rates("metrics_server_events", "type, outcome", BY_OUTCOME, 'outcome!="accepted"'),
            _rates("metrics_server_rejected", "reason", "{{reason}}"),
            _rates(
                "metrics_server_followed_requests",
                "deployment_namespace, deployment_name",
                "{{deployment_namespace}} {{deployment_name}}",
                'outcome="unanswered"',
                span=24,
            ),
        ],
    )


def _store() -> Row:
    quantiles = [
        Query(f"histogram_quantile({q}, {own_rate(f'{COMMIT}_bucket', 'le')})", f"{q:g}") for q in (0.5, 0.9, 0.99)
    ]
    size = "metrics_server_commit_events"
    mean = Query(f"{own_rate(f'{size}_sum')} / {own_rate(f'{size}_count')}", "mean")
    return Row(
        "Store",
        [
            graph("Commit", f"Quantiles. {help_of(COMMIT)}", "s", *quantiles, span=QUARTER),
            graph("Events of a commit", help_of(size), "short", mean, span=QUARTER),
            _level("metrics_server_queue_events", "sum"),
            _level("metrics_server_state_bytes"),
        ],
    )


def _kept() -> Row:
    return Row(
        "What is kept",
        [
            _level("metrics_server_pending_predictions", span=THIRD),
            _level("metrics_server_pending_truths", span=THIRD),
            _rates("metrics_server_dropped_rows", "kind, cause", "{{kind}} {{cause}}"),
            _level("metrics_server_pending_horizon_seconds", "min"),
            _level("metrics_server_overdue_truths"),
            _level("metrics_server_oldest_pending_seconds"),
            _level("metrics_server_series"),
        ],
    )


def _edges() -> Row:
    panels = [
        _rates("metrics_server_refused_connections", "job", "refused", span=QUARTER),
        _rates("metrics_server_clamped_times", "job", "clamped", span=QUARTER),
        _rates("metrics_server_replies", "outcome", "{{outcome}}", span=QUARTER),
        _rates("metrics_server_lookups", "outcome", "{{outcome}}", span=QUARTER),
        _rates("metrics_server_slow_readers", "job", "cut"),
        _rates("metrics_server_dropped_log_lines", "job", "dropped"),
        _rates("metrics_server_refused_scrapes", "reason", "{{reason}}"),
    ]
    return Row("Connections, clocks, replies, look-ups and the log", panels, folded=True)


def _kafka() -> Row:
    name = "metrics_server_kafka_lag_records"
    lag = graph(title_of(name), help_of(name), "short", Query(f"sum({own(name)})", "lag"))
    return Row("Kafka", [lag, _rates("metrics_server_kafka_errors", "job", "errors", span=12)], folded=True)


def _sharing() -> Row:
    lag, upkeep, offset, unfolded, conflicts = (
        f"metrics_server_shared_store_{name}"
        for name in ("lag_seconds", "upkeep_age_seconds", "clock_offset_seconds", "unfolded_commits", "conflicts")
    )

    def each(name: str) -> Panel:
        query = Query(f"max by (instance) ({own(name)})", "{{instance}}")
        return graph(title_of(name), help_of(name), unit_of(name), query, span=THIRD)

    panels = [
        each(lag),
        _level(upkeep, "min", span=THIRD),
        each(offset),
        _level(unfolded, span=12),
        _rates(conflicts, "job", "conflicts", span=12),
    ]
    return Row("Store of several servers", panels, folded=True)


def _scrapes() -> Row:
    series = Query(f"max by (instance) ({own('scrape_samples_scraped')})", "{{instance}}")
    seconds = Query(f"max by (instance) ({own('scrape_duration_seconds')})", "{{instance}}")
    versions = Query(f"count by (version) ({own('metrics_server_build_info')})", "{{version}}")
    return Row(
        "Scrapes",
        [
            graph("Scrape duration", "How long Prometheus waits for the page.", "s", seconds, span=THIRD),
            graph("Samples of a scrape", "Series that Prometheus takes from the page.", "short", series, span=THIRD),
            graph("Versions", help_of("metrics_server_build_info"), "short", versions, span=THIRD),
        ],
    )


def board() -> Board:
    """Returns the dashboard of the server."""
    return Board(
        "feedback-server",
        "Metrics server",
        "The server itself: what it is sent, what it refuses, and whether its store keeps up.",
        [source(), job()],
        [firing("MetricsServer.*"), starts("Starts", own(f"{COMMIT}_created"), "{{instance}} started")],
        [_now(), _events(), _store(), _kept(), _edges(), _scrapes(), _kafka(), _sharing()],
    )
