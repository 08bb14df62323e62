"""Reading what the server says of itself, to check that it counted what it answered."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.process import Process

_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Counted:
    """Events as the server counted them, since its start, and what they brought, since its state began."""

    responses: int
    feedback: int
    predictions: int
    matched: int

    @property
    def accepted(self) -> int:
        return self.responses + self.feedback


def total(page: str, name: str, **labels: str) -> float:
    """The sum over all samples of this name that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", page, re.MULTILINE)
    return sum(float(value) for shown, value in lines if all(pair in shown for pair in wanted))


def check(counted: Counted, pending: int, answered: int, in_flight: int) -> None:
    """Fails unless every answered event was accepted and did what it had to, and nothing else but what was in flight at
    the end.

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
    """The counts once they stand still: what was in flight when wrk left is still being applied."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = None
    while (now := _counted(process)) != before:
        if time.monotonic() > deadline:
            raise BenchmarkError("the server still counts long after the last event")
        before = now
        time.sleep(0.2)
    return now


def _counted(process: Process) -> Counted:
    page = process.get("/v1/metrics")
    accepted = {
        kind: total(page, "metrics_server_events_total", type=kind, outcome="accepted")
        for kind in ("response", "feedback")
    }
    predictions, matched = total(page, "model_predictions_total"), total(page, "model_labels_total", status="matched")
    return Counted(*map(int, (*accepted.values(), predictions, matched)))
