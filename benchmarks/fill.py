"""Fills a store as months of feedback leave it, without sending any."""

from __future__ import annotations

import time

import numpy as np

from cm_models.confusion import COUNTED
from cm_models.multiclass_one_hot import MulticlassOneHot
from metrics_server.metrics.sums import Sums, component
from metrics_server.metrics.window import CUMULATIVE, DAY, HOUR, MINUTE, QUARTER, Bucket, floor
from metrics_server.series.series import Identity, Labels
from metrics_server.settings import Settings
from metrics_server.store.interface import Change, Store, StoredSeries

MODEL = "cm_models.multiclass_numeric.MultiClassNumeric"
PROBABILITIES = "cm_models.multiclass_one_hot.MulticlassOneHot"
AGES = ((MINUTE, 10 * MINUTE), (QUARTER, 12 * HOUR), (QUARTER, 3 * DAY), (DAY, 12 * DAY))  # by width
COUNT = 10.0  # pairs in every cell of every matrix


def fill(store: Store, series: int, classes: int, buckets: int, rows: int = 0) -> float:
    """Commits series with equal sums in each of their time buckets, and cumulative sums; returns the pairs in buckets.

    The sums are those of a full confusion matrix, or of `rows` rows of probabilities.
    """
    now = time.time()
    names = [str(number) for number in range(classes)]
    sums, model = (_probabilities(classes, rows), PROBABILITIES) if rows else (_matrix(names), MODEL)
    for number in range(series):
        labels = Labels("shop", f"wine-{number}", "main", "classifier")
        store.commit(_change(labels, model, names, sums, buckets=_starts(now, buckets), now=now))
    return series * buckets * sums["pairs"]


def sums_stored(store: Store) -> int:
    """Counts the sums in the time buckets, and the cumulative ones."""
    ids = [row.id for row in store.series()]
    in_buckets = sum(len(sums) for series_id in ids for sums in store.history(series_id, 0).values())
    return in_buckets + sum(len(sums) for sums in store.cumulative(CUMULATIVE).values())


def _starts(now: float, buckets: int) -> list[Bucket]:
    """Returns buckets of an age within each of the default windows and beyond the one before, so that the sums of all
    windows differ; in the width that the server has them in at that age.
    """
    chosen = [(AGES[number % len(AGES)], number // len(AGES)) for number in range(buckets)]
    return [Bucket(width, floor(now - age, width) - steps * width) for (width, age), steps in chosen]


def _change(labels: Labels, model: str, names: list[str], each: Sums, *, buckets: list[Bucket], now: float) -> Change:
    identity = Identity(labels, Settings().scoring_of(labels))
    row = StoredSeries(identity.id, identity.encoded, now, now, {})
    claims = {(identity.id, f"class/{slot}"): name for slot, name in enumerate(names)} | {(identity.id, "model"): model}
    counted = {name: value for name, value in each.items() if name.startswith(COUNTED)}
    cumulative = {**counted, component("server/labels", "matched"): each["pairs"]}
    sums: dict[tuple[int, Bucket], Sums] = {
        (identity.id, bucket): {**each, "server/pairs": each["pairs"]} for bucket in buckets
    }
    return Change(series={identity.id: row}, claims=claims, sums={**sums, (identity.id, CUMULATIVE): cumulative})


def _matrix(names: list[str]) -> dict[str, float]:
    cells = {component("confusion", truth, prediction): COUNT for truth in names for prediction in names}
    return {**cells, "pairs": COUNT * len(cells), "correct": COUNT * len(names)}


def _probabilities(classes: int, rows: int) -> Sums:
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.full(classes, 0.5), rows)
    truths = np.array([str(random.choice(classes, p=row)) for row in scores], dtype=object)
    return MulticlassOneHot().increments(truths, scores)
