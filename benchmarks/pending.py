"""A SQLite file with a million predictions that wait for their truth, as the server would have written it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.progress import progress
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.model import load
from metrics_server.metrics.window import seconds_of
from metrics_server.pairing.batch import Batch, Retention
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.settings import Settings
from metrics_server.store.sqlite.store import SqliteStore

PENDING = 1_000_000
BATCH = 5_000  # predictions committed together
SHOWN_EVERY = 100_000

_TYPE = "io.seldon.serving.inference.response"
_NAMES = {"namespace": "shop", "inferenceservicename": "wine", "endpoint": "main", "modelid": "classifier"}
_BODY = b'{"data":{"names":["c0","c1","c2"],"ndarray":[[0.1,0.2,0.7]]}}'


class Pending:
    """The file, made when it is first wanted, and copied for every server."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "pending.db"

    def copy(self) -> Path:
        """Returns a copy for one server, written through to the disk."""
        if not self._path.exists():
            _fill(self._path)
        copy = self._path.with_name(f"{uuid.uuid4().hex}.db")
        shutil.copyfile(self._path, copy)
        with copy.open("rb") as written:
            # Else its pages go to the disk during the measurement, before those of the commits.
            os.fsync(written.fileno())
        return copy


def _fill(path: Path) -> None:
    settings, store = Settings(), SqliteStore(str(path))
    registry = SeriesRegistry(settings.scoring_of, load, settings.max_series)
    retention = Retention(
        *(seconds_of(length) for length in (settings.history, settings.retention, settings.dedupe_retention))
    )
    try:
        for start in range(0, PENDING, BATCH):
            if start % SHOWN_EVERY == 0:
                progress(f"preparing {PENDING:,} pending predictions: {start:,}")
            now = time.time()
            batch = Batch(store, registry, retention, now)
            batch.apply([observation_of(_prediction(now), Labels("", "", "", ""), now) for _ in range(BATCH)])
            if not store.commit(batch.change()):
                raise BenchmarkError("a batch of predictions could not be committed")
    finally:
        store.close()


def _prediction(now: float) -> Event:
    attributes = {**_NAMES, "requestid": str(uuid.uuid4()), "protocol": "seldon"}
    return Event(
        kind=EventKind.RESPONSE,
        id=str(uuid.uuid4()),
        source="http://:8000/",
        type=_TYPE,
        time=now,
        attributes=attributes,
        data=_BODY,
    )
