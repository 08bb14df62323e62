"""The page of the server itself: what comes in, what is refused and why, and how the store keeps up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metrics_server.metrics.labels import EventKind
from metrics_server.telemetry import COUNTED, Telemetry
from metrics_server.web import chart
from metrics_server.web.self_sampler import SelfSampler, counters_of

GAUGES = (
    "store_up",
    "queue_events",
    "pending_predictions",
    "pending_truths",
    "overdue_truths",
    "oldest_pending_seconds",
    "pending_horizon_seconds",
    "series",
    "state_bytes",
    "kafka_lag_records",
)


def health_page(
    telemetry: Telemetry, sampler: SelfSampler, rejections: Sequence[dict[str, Any]], now: float
) -> dict[str, Any]:
    """Returns the context of the template."""
    counters = counters_of(telemetry)
    samples = sampler.samples()
    drawn = [chart.event_rates(samples), chart.commit_times(samples)]
    refused = {
        labels[0]: count
        for (name, labels), count in counters.items()
        if name == "metrics_server_rejected_total" and count
    }
    return {
        "kinds": EventKind,
        "outcomes": COUNTED,
        "events": {
            labels: count for (name, labels), count in counters.items() if name == "metrics_server_events_total"
        },
        "refused": dict(sorted(refused.items(), key=lambda reason: -reason[1])),
        "rejections": rejections,
        "gauges": {name: counters[key] for name in GAUGES if (key := (f"metrics_server_{name}", ())) in counters},
        "uptime": now - sampler.started_at,
        "sample": samples[-1] if samples else None,
        "charts": {one.name: one for one in drawn if one is not None},
    }
