"""What the server says of the simulation on /v1/metrics, in one line."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

WINDOW = "1h"
SHOWN = {
    "model_accuracy_ratio": ("accuracy", ".3f"),
    "model_mean_absolute_error": ("mean absolute error", ".1f"),
}  # word and form
EVENTS = "metrics_server_events_total"


class Outcome(NamedTuple):
    """Values of the last hour by what they are and which predictor they are about, and the server's counters."""

    values: dict[str, dict[str, str]]
    labels: float
    events: float
    repeats: float

    def __str__(self) -> str:
        # The most wanted first: a narrow terminal cuts the end.
        parts = [
            f"{word} {'  '.join(f'{name} {value}' for name, value in found.items())}"
            for word, found in self.values.items()
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
                word, form = SHOWN[name]
                values.setdefault(word, {})[_name(labels)] = f"{value:{form}}"
    repeats = sum(count for (_, outcome), count in counts.items() if outcome == "duplicate")
    return Outcome(values, counts.get(("feedback", "accepted"), 0.0), sum(counts.values()), repeats)


def _name(labels: dict[str, str]) -> str:
    deployment, predictor = labels["deployment_name"], labels["predictor_name"]
    return deployment if predictor == "default" else f"{deployment}/{predictor}"
