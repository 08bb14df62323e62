"""The values of all windows of a series together."""

from __future__ import annotations

from collections.abc import Iterable

from metrics_server.metrics import Array, Sample, Sums
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.series import Identity, Labels, Scoring, Series


class HitRate:
    """A metric model of a user, which knows of which sums it was read."""

    def __init__(self) -> None:
        self.read: list[Sums] = []

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        return {"pairs": float(y_true.size), "hits": float((y_true == y_pred).sum())}

    def compute(self, sums: Sums) -> Iterable[Sample]:
        self.read.append(sums)
        yield Sample("hit_rate", {}, sums["hits"] / sums["pairs"])


def _sums(pairs: float, hits: float) -> Sums:
    return {"server/pairs": pairs, "pairs": pairs, "hits": hits}


def test_windows_with_equal_sums_are_read_once() -> None:
    """A young series costs one window, however many there are; and each window has the values of its own sums."""
    model = HitRate()
    labels = Labels("shop", "wine", "main", "classifier")
    series = Series(Identity(labels, Scoring()), lambda path, parameters: model, 0.0, 0.0, {"model": "app.HitRate"})
    windows = {"1h": _sums(4.0, 1.0), "1d": _sums(8.0, 1.0), "7d": _sums(8.0, 1.0), "30d": _sums(4.0, 1.0)}
    found = dict(Evaluator(100, 0).values_by_window(series, windows))
    assert {window: [sample.value for sample in samples] for window, samples in found.items()} == {
        "1h": [4.0, 0.25],
        "1d": [8.0, 0.125],
        "7d": [8.0, 0.125],
        "30d": [4.0, 0.25],
    }
    assert model.read == [windows["1h"], windows["1d"]]
