"""What is kept of a page until the next scrape."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from metrics_server.api.exposition import OPENMETRICS, AncestorLabels, Exposition
from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.custom_metric import CustomMetric, CustomType
from metrics_server.metrics.model import load
from metrics_server.metrics.sums import component
from metrics_server.metrics.window import CUMULATIVE, MINUTE, Bucket
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Identity, Labels, Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.interface import StoredSeries
from metrics_server.store.memory import MemoryStore
from metrics_server.telemetry import Telemetry

NOW = 1_790_000_000
BUCKET = Bucket(MINUTE, NOW - NOW % MINUTE)
MODEL = "cm_models.multiclass_numeric.MultiClassNumeric"
CALLS = CustomMetric(CustomType.COUNTER, "calls")
CLASSES = [f"class {number}" for number in range(8)]
CELLS = {component("confusion", truth, prediction): 3.0 for truth in CLASSES for prediction in CLASSES}
SUMS = {**CELLS, "pairs": 192.0, "correct": 24.0, PAIRS: 192.0, CALLS.component: 7.0}


def _row(number: int) -> StoredSeries:
    identity = Identity(Labels("shop", f"wine-{number}", "main", "classifier"), Scoring())
    slots = {f"class/{slot}": name for slot, name in enumerate(CLASSES)}
    claimed = {"model": MODEL, **slots, "custom/0": CALLS.component}
    return StoredSeries(identity.id, identity.encoded, NOW, NOW, claimed)


def _page_of(rows: Sequence[StoredSeries]) -> tuple[Exposition, Totals]:
    """Makes the page of these series, all with the same sums."""
    registry = SeriesRegistry(lambda labels: Scoring(), lambda path, parameters: load(path, parameters), 100)
    totals = Totals({"1h": 3600, "1d": 86400})
    totals.rebuild(MemoryStore(), NOW)
    registry.restore(rows)
    totals.add({(row.id, bucket): SUMS for row in rows for bucket in (BUCKET, CUMULATIVE)})
    ancestor, evaluator = AncestorLabels("", "", "", ""), Evaluator(30, 1)
    return Exposition(registry, totals, Telemetry(), ancestor, seldon_metrics=True, evaluator=evaluator), totals


def test_kept_lines_are_those_that_were_made() -> None:
    """A page of quiet series is the same to the byte, with every family once and whole; and what changes is shown."""
    rows = [_row(number) for number in range(3)]
    exposition, totals = _page_of(rows)
    first = exposition.render(OPENMETRICS)[0]
    assert exposition.render(OPENMETRICS)[0] == first
    families = [family.name for family in text_string_to_metric_families(first.decode())]
    assert len(families) == len(set(families))
    assert {"model_accuracy_ratio", "model_labels", "seldon_metric_true_positive", "calls"} <= set(families)
    totals.add({(rows[1].id, BUCKET): {PAIRS: 1.0}})
    changed = exposition.render(OPENMETRICS)[0]
    moved = [line for line in changed.splitlines() if line not in set(first.splitlines())]
    assert moved
    assert all(b"model_support{" in line and b"wine-1" in line and b" 193.0" in line for line in moved)


def test_a_scraped_page_is_not_kept_in_memory() -> None:
    """Between two scrapes the lines of all series take less than a fifth of the bytes that they are on the page."""
    exposition, _ = _page_of([_row(number) for number in range(50)])
    exposition.render(OPENMETRICS, ("up",))  # imports, and what is made once
    exposition.forget()
    gc.collect()
    tracemalloc.start()
    try:
        size = len(exposition.render("")[0])
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < size / 5
