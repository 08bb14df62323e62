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
    """Events as the server counted them."""

    accepted: int
    matched: int


def total(page: str, name: str, **labels: str) -> float:
    """The sum over all samples of this name that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", page, re.MULTILINE)
    return sum(float(value) for shown, value in lines if all(pair in shown for pair in wanted))


def check(process: Process, answered: int, in_flight: int) -> None:
    """Fails unless every answered event was accepted and matched, and nothing else but what was in flight at the end.

    Raises:
        BenchmarkError: the numbers differ; the measured rate means nothing.
    """
    counted = _settled(process)
    if not answered <= counted.accepted <= answered + in_flight or counted.matched != counted.accepted:
        raise BenchmarkError(
            f"{answered} events were answered 200 (and up to {in_flight} in flight), "
            f"but {counted.accepted} counted as accepted and {counted.matched} as matched"
        )


def _settled(process: Process) -> Counted:
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
    return Counted(
        int(total(page, "metrics_server_events_total", type="feedback", outcome="accepted")),
        int(total(page, "model_labels_total", status="matched")),
    )
