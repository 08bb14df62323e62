"""A writer on a store in memory, with a clock that a test moves."""

from __future__ import annotations

import queue
from typing import Any

from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.model import load
from metrics_server.pairing.usage import UsageLimits
from metrics_server.pairing.writer import Submission, Writer
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store
from metrics_server.telemetry import Telemetry
from metrics_server.web.self_sampler import counters_of
from tests.support.pairing_bench import KEEPING, NOWHERE, Sent
from tests.support.waiting import until


class WriterBench:
    """A writer, as a server has one; `now` is what its clock says."""

    def __init__(self, store: Store, now: float) -> None:
        self.now = now
        self.telemetry = Telemetry()
        self._results: queue.Queue[list[Any]] = queue.Queue()
        scoring = Scoring(storage_uri="cm_models.multiclass_numeric.MultiClassNumeric")
        self._writer = Writer(
            store,
            SeriesRegistry(lambda labels: scoring, lambda path, parameters: load(path, parameters), 10),
            Totals({"1h": 3600}),
            self.telemetry,
            KEEPING,
            max_queue=10_000,
            series_retention=KEEPING.history,
            limits=UsageLimits(),
            deliver_results=lambda results: [on_result(result) for on_result, result in results] and None,
            clock=lambda: self.now,
        )
        self._writer.start()

    def send(self, *sent: Sent) -> list[Any]:
        """Has events applied, as received now."""
        observations = [observation_of(one.event(), NOWHERE, self.now) for one in sent]
        self._writer.submit(Submission(observations, self._results.put))
        return self._results.get(timeout=20)

    def reads(self, name: str, value: float, *labels: str) -> bool:
        """Waits until the server's own series reads that."""
        key = f"metrics_server_{name}", labels
        self.send()  # wakes the thread, which looks after what is due at intervals of its clock
        until(lambda: counters_of(self.telemetry).get(key) == value, 20, f"{name} is not {value}")
        return True

    def stop(self) -> None:
        """Ends the writer's thread."""
        assert self._writer.stop(10)
