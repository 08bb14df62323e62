"""A request as the server takes it, without a server: from its bytes to the page that it leaves, twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

from metrics_server.api.exposition import AncestorLabels, Exposition
from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event, decode
from metrics_server.ingest.decoding import decompressed
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.model import load
from metrics_server.pairing.batch import Batch, Retention
from metrics_server.pairing.observation import Observation
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.memory import MemoryStore
from metrics_server.telemetry import Telemetry

NOW = 1_800_000_000.0
LIMIT = 8 * 2**20
LABELS = Labels("default", "", "", "")
TELEMETRY = Telemetry()
ANCESTOR = AncestorLabels("method", "image", "1", "v1")


def taken(content_type: str, encoding: str, headers: Mapping[str, str], body: bytes) -> list[Observation]:
    """The observations that ingest would queue for this request; anything raised but `Rejected` fails the test."""
    observations = []
    try:
        for event in decode(content_type, headers, decompressed(body, encoding, LIMIT)):
            if isinstance(event, Event) and event.kind in (EventKind.REQUEST, EventKind.RESPONSE, EventKind.FEEDBACK):
                observations.append(_observation(event))
    except Rejected as error:
        assert isinstance(error.reason, Reason)
    return [observation for observation in observations if observation is not None]


def _observation(event: Event) -> Observation | None:
    try:
        return observation_of(event, LABELS, NOW)
    except Rejected as error:
        error.detail.encode()
        return None


def build(path: str, parameters: Mapping[str, object]) -> Any:
    return load(path, parameters)


def check(content_type: str, encoding: str, headers: Mapping[str, str], body: bytes) -> None:
    """Takes the request twice, in two groups, and reads the page."""
    if not (observations := taken(content_type, encoding, headers, body)):
        return
    store, registry, totals = (
        MemoryStore(),
        SeriesRegistry(lambda labels: Scoring(max_classes=5), build, 3),
        Totals({"1h": 3600, "30d": 30 * 86400}),
    )
    for _ in range(2):
        batch = Batch(store, registry, Retention(400 * 86400, 35 * 86400, 86400), NOW)
        for outcome in batch.apply(observations):
            assert outcome in ("accepted", "duplicate", "pending") or isinstance(outcome, Rejected)
        change = batch.change()
        assert store.commit(change)
        totals.add(change.sums)
    exposition = Exposition(registry, totals, TELEMETRY, ANCESTOR, seldon_metrics=True, evaluator=Evaluator(3, 1))
    _read(exposition, "", prometheus_families)
    _read(exposition, "application/openmetrics-text; version=1.0.0", openmetrics_families)


def _read(exposition: Exposition, accept: str, families: Callable[[str], Any]) -> None:
    """The page is readable, no sample stands on it twice, and every label is one that was sent or configured."""
    samples = [sample for family in families(exposition.render(accept)[0].decode()) for sample in family.samples]
    names = [(sample.name, *sorted(sample.labels.items())) for sample in samples]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    assert all(sample.value == sample.value for sample in samples), "NaN on the page"  # noqa: PLR0124 - that is what NaN is
