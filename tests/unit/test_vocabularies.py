"""Predictions that are indexes and truths that are names are told of, and are no alarm about the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET

from cm_models.multiclass_numeric import MultiClassNumeric
from metrics_server.api.responses import headline_of, window_summary_of
from metrics_server.api.schema import MetricValue, SeriesSummary, WindowSummary
from metrics_server.metrics.model import OTHER_CLASSES
from metrics_server.metrics.sums import Sums
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import model_at
from metrics_server.series.series import Identity, Labels, Scoring, Series
from metrics_server.web.notices import BAD, WARN, ranked

PATH = "cm_models.multiclass_numeric.MultiClassNumeric"
WINE = Labels("shop", "wine", "main", "classifier")


def sums_of(truths: Sequence[str], predictions: Sequence[str]) -> Sums:
    return MultiClassNumeric().increments(np.array(truths, object), np.array(predictions, object))


def series_of(labels: Labels = WINE) -> Series:
    def build(path: str, parameters: Any) -> Any:
        return model_at(path, parameters, max_exported_classes=100, allow_pickle=False)

    return Series(Identity(labels, Scoring(storage_uri=PATH)), build, 0.0, 0.0, {"model": PATH})


@pytest.mark.parametrize(
    ("truths", "predictions", "side"),
    [
        (("setosa", "versicolor"), ("0", "1"), "predictions"),
        (("0", "1", "-1"), ("no", "yes", "no"), "truths"),
        (("setosa",), ("12345",), "predictions"),
        (("setosa", "versicolor"), ("iris-setosa", "iris-versicolor"), None),
        (("0", "1"), ("1", "0"), None),
        (("setosa", "1"), ("0", "2"), None),
        (("setosa", "setosa"), ("0", "virginica"), None),
        (("setosa", OTHER_CLASSES), ("0", "1"), None),
        (("1.5b", "007"), ("0", "1"), "predictions"),
        ((), (), None),
    ],
)
def test_which_side_is_indexes(truths: Sequence[str], predictions: Sequence[str], side: str | None) -> None:
    """Only when one side is all indexes and the other all names is it told, and which side the indexes are; also of
    hundreds of classes. The headline stays the accuracy."""
    sums = sums_of([*truths] * 50, [*predictions] * 50)
    samples = list(MultiClassNumeric().compute(sums))
    assert [one.labels["indexes"] for one in samples if one.name == "vocabularies_differ"] == ([side] if side else [])
    summary = window_summary_of(Evaluator(100, 0), series_of(), {**sums, "server/pairs": sums.get("pairs", 0.0)})
    assert summary.indexes == (side or UNSET)
    assert (summary.headline is None) is (not truths)


def test_hundreds_of_classes() -> None:
    """Beyond the classes that the exported matrix has it is told all the same."""
    indexes = [str(number) for number in range(200)]
    sums = sums_of([f"class {index}" for index in indexes], indexes)
    assert [one.name for one in MultiClassNumeric().compute(sums)][1] == "vocabularies_differ"


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often the numbers of a series are read, in whatever window, the log says it once, and once more for
    another series."""
    evaluator = Evaluator(100, 0)
    sums = {**sums_of(["setosa"], ["0"]), "server/pairs": 1.0}
    with caplog.at_level(logging.WARNING):
        for labels in (WINE, WINE, WINE._replace(predictor="canary")):
            for _ in range(2):
                assert headline_of(evaluator, series_of(labels), sums) is not None
                list(evaluator.values(series_of(labels), sums))
    assert [record.getMessage() for record in caplog.records] == [
        f"The predictions of shop/wine/{predictor}/classifier are all indexes and the other side of its pairs all "
        "names, so none can be right: --class_names says which index has which name"
        for predictor in ("main", "canary")
    ]


def _entry(predictor: str, value: float, **more: Any) -> SeriesSummary:
    def standing(accuracy: float, **of_window: Any) -> WindowSummary:
        lower, upper = max(0.0, accuracy - 0.04), min(1.0, accuracy + 0.04)
        name = "model_accuracy_ratio"
        headline = MetricValue(name=name, labels={}, value=accuracy, lower=lower, upper=upper, support=100)
        return WindowSummary(support=500, predictions=500, rewards=0, headline=headline, **of_window)

    return SeriesSummary(
        namespace="shop",
        deployment="wine",
        predictor=predictor,
        model="classifier",
        path="/v1/models/…",
        slices=[],
        task="multiclass",
        metric_model=PATH,
        created_at=0.0,
        baseline="main",
        objectives=[],
        last_prediction_at=900.0,
        last_label_at=900.0,
        labels={},
        windows={"1h": standing(value, **more), "1d": standing(0.9)},
    )


def test_the_page_names_the_option_and_raises_no_alarm() -> None:
    """A predictor whose predictions are all indexes has a warning with what helps, and is not called worse than the
    other or than before; one whose names never agree is."""
    main = _entry("main", 0.9)
    shown = ranked([main, _entry("next", 0.0, indexes="predictions")], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    ((severity, text),) = shown[0].notices
    assert severity == WARN
    assert text.startswith("all predictions are indexes of classes and all truths are names")
    assert "--class_names" in text
    shown = ranked([main, _entry("next", 0.0)], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    assert [notice.severity for notice in shown[0].notices] == [BAD, BAD]
