"""The outcome of a simulation in one line, read from /v1/metrics."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

WINDOW = "1h"
# Name of a value -> words and number format.
SHOWN = {
    "model_accuracy_ratio": ("accuracy", ".3f"),
    "model_mean_absolute_error": ("mean absolute error", ".1f"),
}
EVENTS = "metrics_server_events_total"


class Outcome(NamedTuple):
    """Values of the last hour by title and predictor, and the server's counters."""

    values: dict[str, dict[str, str]]
    labels: float
    events: float
    repeats: float

    def __str__(self) -> str:
        # The most wanted first: a narrow terminal cuts the end.
        parts = [
            f"{title} {'  '.join(f'{predictor} {value}' for predictor, value in by_predictor.items())}"
            for title, by_predictor in self.values.items()
        ]
        counted = f"labels {self.labels:,.0f}  events {self.events:,.0f}  repeats {self.repeats:,.0f}"
        return "  ".join([*(parts or ["nothing is labelled yet"]), counted])


def outcome_of(page: str, namespace: str) -> Outcome:
    """Reads the values of a namespace, and the server's counters, from a page of Prometheus' text format."""
    values: dict[str, dict[str, str]] = {}
    counts: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page):
        for name, labels, value, *_ in family.samples:
            if name == EVENTS:
                counts[labels["type"], labels["outcome"]] = value
            elif (
                name in SHOWN
                and labels.get("deployment_namespace") == namespace
                and labels.get("window") == WINDOW
                and "slice" not in labels
            ):
                title, number_format = SHOWN[name]
                values.setdefault(title, {})[_name(labels)] = f"{value:{number_format}}"
    repeats = sum(count for (_, outcome), count in counts.items() if outcome == "duplicate")
    return Outcome(values, counts.get(("feedback", "accepted"), 0.0), sum(counts.values()), repeats)


def _name(labels: dict[str, str]) -> str:
    deployment, predictor = labels["deployment_name"], labels["predictor_name"]
    return deployment if predictor == "default" else f"{deployment}/{predictor}"
