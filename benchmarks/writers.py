"""`python -m benchmarks.writers`: writers by themselves, without HTTP: one on SQLite; 1, 2 and 4 on one PostgreSQL.

Each applies 64 events, waits until they are durable, and goes on: what a server does that is always asked by as many
clients. Events are made before they are measured. A server adds what HTTP costs, see `benchmarks.budget`.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import Any

from benchmarks.core import FEEDBACK, NOWHERE, Traffic, post_of
from benchmarks.database import DATABASES, database
from benchmarks.errors import BenchmarkError
from benchmarks.progress import progress
from metrics_server.ingest.cloudevent import Event, decode
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import Outcome
from metrics_server.metrics.window import seconds_of
from metrics_server.pairing.batch import Retention
from metrics_server.pairing.observation import Observation
from metrics_server.pairing.usage import UsageLimits
from metrics_server.pairing.writer import Submission, SubmissionResult, Writer
from metrics_server.series.families import model_at
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.totals import Totals
from metrics_server.settings import Settings
from metrics_server.store import open_store
from metrics_server.telemetry import Telemetry

TOGETHER = 64
EVENTS = 40_000  # that a writer has at hand
SECONDS = 5.0
ROUNDS = 3
WRITERS = (1, 2, 4)
DISK = "/var/tmp"


def main() -> None:
    """Prints events a second, and how many times those of one writer they are."""
    if len(sys.argv) > 1:
        url, first = sys.argv[1:]
        print(_written(url, int(first)), flush=True)
        return
    rates: dict[tuple[str, int], list[float]] = {}
    for round_ in range(ROUNDS):
        progress(f"round {round_ + 1} of {ROUNDS}")
        with tempfile.TemporaryDirectory(prefix="metrics-server-writers-", dir=DISK) as directory:
            rates.setdefault(("sqlite", 1), []).append(_together([f"sqlite:///{directory}/state.db"]))
        for name, count in product(DATABASES, WRITERS):
            rates.setdefault((name, count), []).append(_together([database(name).fresh()] * count))
    for (name, count), found in rates.items():
        ratios = [rate / one for rate, one in zip(found, rates[name, 1], strict=True)]
        by_round = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name}, {count} writers: {median(found):,.0f} events/s, {median(ratios):.2f} x one ({by_round})")


def _together(urls: Sequence[str]) -> float:
    """Runs a writer in a process of its own for each, all at the same time; returns their events a second."""
    progress(f"{len(urls)} writers on {urls[0].partition('://')[0]}")
    command = [sys.executable, "-m", "benchmarks.writers"]
    running = [
        subprocess.Popen([*command, url, str(place * EVENTS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for place, url in enumerate(urls)
    ]
    for one in running:  # all are ready before any begins
        if one.stdout is None or one.stdout.readline().strip() != "ready":
            raise BenchmarkError("a writer did not get ready")
    written = [one.communicate("go\n")[0] for one in running]
    return sum(map(float, written))


def _written(url: str, first: int) -> float:
    """Writes for some seconds; returns the events a second."""
    settings, registry = Settings(), _registry()
    retention = Retention(*map(seconds_of, (settings.history, settings.retention, settings.dedupe_retention)))
    results: queue.SimpleQueue[Sequence[SubmissionResult]] = queue.SimpleQueue()
    writer = Writer(
        open_store(url),
        registry,
        Totals({window: seconds_of(window) for window in settings.windows}),
        Telemetry(),
        retention,
        max_queue=settings.max_queue_events,
        series_retention=retention.history,
        limits=UsageLimits(),
        deliver_results=_deliver,
    )
    writer.start()
    batches = _batches(first)
    print("ready", flush=True)
    sys.stdin.readline()
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < SECONDS and count < len(batches):
        writer.submit(Submission(batches[count], results.put))
        if set(results.get()) != {Outcome.ACCEPTED}:
            raise BenchmarkError("an event was not accepted")
        count += 1
    threading.Thread(target=writer.stop, daemon=True).start()
    return count * TOGETHER / passed


def _deliver(done: list[tuple[Callable[[Any], None], Any]]) -> None:
    for on_result, result in done:
        on_result(result)


def _registry() -> SeriesRegistry:
    settings = Settings()
    build = partial(model_at, max_exported_classes=settings.max_exported_classes, allow_pickle=False)
    return SeriesRegistry(settings.scoring_of, build, settings.max_series, settings.max_slices)


def _batches(first: int) -> list[list[Observation]]:
    """Makes the observations of events with ids from this number on."""
    posts = [post_of(FEEDBACK, number, Traffic()) for number in range(first, first + EVENTS)]
    events = [decode("application/json", headers, body)[0] for headers, body in posts]
    made = [observation_of(event, NOWHERE, time.time()) for event in events if isinstance(event, Event)]
    return [made[start : start + TOGETHER] for start in range(0, EVENTS, TOGETHER)]


if __name__ == "__main__":
    main()
