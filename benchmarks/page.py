"""Reads the counters of the server, to check that it counted the events that it accepted."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.process import Process

_STILL_SECONDS = 1.0
_SETTLE_SECONDS = 60.0  # a page of 1,000 series that have all changed takes seconds


@dataclass(frozen=True)
class Counted:
    """Events that the server counted since its start, and predictions and matched labels since its state began."""

    responses: int
    feedback: int
    predictions: int
    matched: int

    @property
    def accepted(self) -> int:
        return self.responses + self.feedback


def total(page: str, name: str, **labels: str) -> float:
    """Sums all samples of this name that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", page, re.MULTILINE)
    return sum(float(value) for label_text, value in lines if all(pair in label_text for pair in wanted))


def check(counted: Counted, pending: int, answered: int, in_flight: int) -> None:
    """Checks that the server accepted and counted every answered event, and no others but those in flight at the end.

    Raises:
        BenchmarkError: the numbers differ; the measured rate means nothing.
    """
    is_complete = answered <= counted.accepted <= answered + in_flight
    if not is_complete or counted.matched != counted.feedback or counted.predictions != pending + counted.responses:
        raise BenchmarkError(
            f"{answered} events were answered 200 (and up to {in_flight} in flight), but {counted.responses} responses "
            f"and {counted.feedback} feedback counted as accepted, {counted.matched} labels as matched, "
            f"and {counted.predictions} predictions, of which {pending} were there before"
        )


def settled(process: Process) -> Counted:
    """Waits until the counts stand still, since events in flight when wrk left are still being applied.

    One of several workers hears of the others within a second.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = None
    while (now := _counted(process)) != before:
        if time.monotonic() > deadline:
            raise BenchmarkError("the server still counts long after the last event")
        before = now
        time.sleep(_STILL_SECONDS)
    return now


def _counted(process: Process) -> Counted:
    page = process.get("/v1/metrics")
    accepted = {
        kind: total(page, "metrics_server_events_total", type=kind, outcome="accepted")
        for kind in ("response", "feedback")
    }
    predictions, matched = total(page, "model_predictions_total"), total(page, "model_labels_total", status="matched")
    return Counted(*map(int, (*accepted.values(), predictions, matched)))
