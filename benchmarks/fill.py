"""A state as months of feedback leave it, made without sending any."""

from __future__ import annotations

import time

import msgspec

from metrics_server.series import Identity, Labels
from metrics_server.settings import Settings
from metrics_server.store.interface import Change, Store, StoredSeries
from metrics_server.sums import Sums, component
from metrics_server.window import DAY, EVER, HOUR, MINUTE, QUARTER, Bucket, floor

MODEL = "cm_models.multiclass_numeric.MultiClassNumeric"
COUNT = 10.0  # pairs in every cell of every matrix


def fill(store: Store, series: int, classes: int, buckets: int) -> float:
    """Commits so many series with a full matrix in so many time buckets and in the ledger; returns the pairs in the buckets."""
    now = time.time()
    for number in range(series):
        store.commit(_change(Labels("shop", f"wine-{number}", "main", "classifier"), classes, _starts(now, buckets), now))
    return series * buckets * classes**2 * COUNT


def sums_stored(store: Store) -> int:
    """How many sums there are in the time buckets and in the ledger."""
    ids = [row.id for row in store.series()]
    in_buckets = sum(len(sums) for series_id in ids for sums in store.history(series_id, 0).values())
    return in_buckets + sum(len(sums) for sums in store.ledger(EVER).values())


def _starts(now: float, buckets: int) -> list[Bucket]:
    """Buckets of all three widths, each where the server itself would have put it."""
    ways = ((MINUTE, 10 * MINUTE), (QUARTER, 12 * HOUR), (DAY, 12 * DAY))
    chosen = [(ways[number % 3], number // 3) for number in range(buckets)]
    return [Bucket(width, floor(now - age, width) - steps * width) for (width, age), steps in chosen]


def _change(labels: Labels, classes: int, buckets: list[Bucket], now: float) -> Change:
    identity = Identity(labels, Settings().scoring_of(labels))
    names = [str(number) for number in range(classes)]
    row = StoredSeries(identity.id, msgspec.json.encode(identity), now, now, {})
    claims = {(identity.id, f"class/{slot}"): name for slot, name in enumerate(names)} | {(identity.id, "model"): MODEL}
    matrix = _matrix(names)
    ever = {**matrix, component("server/labels", "matched"): matrix["pairs"]}
    sums: dict[tuple[int, Bucket], Sums] = {(identity.id, bucket): {**matrix, "server/pairs": matrix["pairs"]} for bucket in buckets}
    return Change(series={identity.id: row}, claims=claims, sums={**sums, (identity.id, EVER): ever})


def _matrix(names: list[str]) -> dict[str, float]:
    cells = {component("confusion", truth, prediction): COUNT for truth in names for prediction in names}
    return {**cells, "pairs": COUNT * len(cells), "correct": COUNT * len(names)}
