"""The page of the server itself: what comes in, what is refused and why, and how the store keeps up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metrics_server.telemetry import KINDS, OUTCOMES, Telemetry
from metrics_server.web import chart
from metrics_server.web.pulse import Pulse, samples_of

GAUGES = (
    "store_up",
    "queue_events",
    "pending_predictions",
    "pending_truths",
    "oldest_pending_seconds",
    "pending_horizon_seconds",
    "series",
    "state_bytes",
    "kafka_lag_records",
)


def health_page(telemetry: Telemetry, pulse: Pulse, rejections: Sequence[dict[str, Any]], now: float) -> dict[str, Any]:
    """What the template shows."""
    samples = samples_of(telemetry)
    beats = pulse.beats()
    drawn = [chart.event_rates(beats), chart.commit_times(beats)]
    refused = {labels[0]: count for (name, labels), count in samples.items() if name == "metrics_server_rejected_total" and count}
    return {
        "kinds": KINDS,
        "outcomes": OUTCOMES,
        "events": {labels: count for (name, labels), count in samples.items() if name == "metrics_server_events_total"},
        "refused": dict(sorted(refused.items(), key=lambda reason: -reason[1])),
        "rejections": rejections,
        "gauges": {name: samples[key] for name in GAUGES if (key := (f"metrics_server_{name}", ())) in samples},
        "uptime": now - pulse.started_at,
        "beat": beats[-1] if beats else None,
        "charts": {one.name: one for one in drawn if one is not None},
    }
