"""Readings: the values of a series, from its sums. The page for Prometheus, the JSON API and the replay show the same."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from metrics_server import output, reward
from metrics_server.catalogue import MODEL
from metrics_server.interval import WEIGHT_EXCESS, evidence
from metrics_server.ledger import LOGGED, PAIRS
from metrics_server.model import AncestorCounting, Counting, Sample, Tabular
from metrics_server.series import Series
from metrics_server.sums import Sums, add_into

logger = logging.getLogger(__name__)

SERIES_LABELS = ("deployment_namespace", "deployment_name", "predictor_name", "model_name")

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = {*SERIES_LABELS, "slice", "window", "le"}
# What the server itself says of every series; a metric model may not say it again.
OF_SERVER = ("model_support", "model_reward", "model_output", "model_label", "model_predict", "model_last")
_TAKEN = {name for name in MODEL if name.startswith(OF_SERVER)}
_KNOWN = {name.removeprefix("model_") for name in MODEL} - {name.removeprefix("model_") for name in _TAKEN}


class Reader:
    """Reads values from sums. It holds no state but what it has warned of, and may be used by any thread."""

    def __init__(self, max_exported_classes: int, min_support: int) -> None:
        """Values that rest on fewer than `min_support` pairs, or rows, are left out."""
        self._max_exported_classes = max_exported_classes
        self._min_support = min_support
        self._refused: set[str] = set()

    def exported(self, series: Series) -> list[str]:
        """The classes with values of their own."""
        return list(series.classes)[: self._max_exported_classes]

    def values(self, series: Series, sums: Sums) -> Iterator[Sample]:
        """The values of one window, or of one step of the history. Undefined ones are not yielded."""
        support, logged = sums.get(PAIRS, 0.0), sums.get(LOGGED, 0.0)
        if support > 0:
            yield Sample("support", {}, support)
            samples = self._valid(self._of_model(series, sums))
            yield from self._shown(_unweighted(samples, sums) if WEIGHT_EXCESS in sums else samples, support)
        if logged > 0 and support <= logged:
            yield Sample("label_coverage_ratio", {}, support / logged, support=logged)
        yield from self._shown(reward.compute(sums), support)
        yield from self._shown(output.compute(sums), support)
        if series.has_classes or (not series.task and series.classes):
            yield from self._shown(output.shares(sums, series.classes, self._max_exported_classes), support)

    def _of_model(self, series: Series, sums: Sums) -> Iterable[Sample]:
        return () if series.model is None else series.model.compute(sums)

    def _shown(self, samples: Iterable[Sample], support: float) -> Iterator[Sample]:
        least = self._min_support - 1e-9  # sums of weights may be off by a rounding error
        return (sample for sample in samples if (support if sample.support is None else sample.support) >= least)

    def counts(self, series: Series, ever: Sums, retracted: Sums) -> Iterator[Sample]:
        """What the metric model counts, ever, and what corrections took back."""
        if isinstance(series.model, Counting):
            yield from self._valid(series.model.counts(ever))
            for sample in self._valid(series.model.counts(retracted)):
                yield sample._replace(name=f"{sample.name}_retracted")

    def ancestor_counts(self, series: Series, ever: Sums, reapplied: Sums) -> Iterator[Sample]:
        """The same in the ancestor's vocabulary, over the first truth of each prediction."""
        if isinstance(series.model, AncestorCounting):
            first = dict(ever)
            add_into(first, reapplied, -1)
            yield from self._valid(series.model.ancestor_counts(first))

    def tables(self, series: Series, sums: Sums) -> Mapping[str, list[dict[str, str | float]]]:
        """The curves of one window."""
        if not isinstance(series.model, Tabular) or not sums.get(PAIRS):
            return {}
        try:
            return {str(name): [_cells(row) for row in rows] for name, rows in series.model.tables(sums).items()}
        except Exception as error:  # noqa: BLE001 - of a user's metric model
            self._warn(error)
            return {}

    def _warn(self, error: Exception) -> None:
        if (name := type(error).__name__) not in self._refused:
            self._refused.add(name)
            logger.warning("A metric model cannot be read: %s: %s", name, error)

    def _valid(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Samples whose names may be exposed; a user's metric model may yield anything."""
        try:
            for sample in samples:
                plain = sample if type(sample.value) is float and sample.interval is None else _plain(sample)
                if self._is_valid(plain):
                    yield plain
        except Exception as error:  # noqa: BLE001 - of a user's metric model; the other series must not suffer
            self._warn(error)

    def _is_valid(self, sample: Sample) -> bool:
        numbers = (sample.value, *(sample.interval or ()))
        if len(numbers) in (1, 3) and all(type(number) is float and math.isfinite(number) for number in numbers):
            if sample.name in _KNOWN:
                return True
            fits = all(isinstance(name, str) and _NAME.fullmatch(name) for name in (sample.name, *sample.labels))
            if fits and not _RESERVED & set(sample.labels) and f"model_{sample.name}" not in _TAKEN:
                return True
        if sample.name not in self._refused:
            self._refused.add(sample.name)
            logger.warning("A metric model yields %r, whose name, labels or numbers cannot be exposed", sample.name)
        return False


def _unweighted(samples: Iterable[Sample], sums: Sums) -> Iterator[Sample]:
    """The same with the support that pairs of equal weight would need to tell as much: sums of weights have any unit."""
    share = evidence(sums, sums.get("pairs", 0.0))
    for sample in samples:
        yield sample if sample.support is None else sample._replace(support=sample.support * share)


def _plain(sample: Sample) -> Sample:
    """The same with plain floats: numpy's say of what type they are when they are written. What is no number stays as it is."""
    try:
        ends = None if sample.interval is None else tuple(map(float, sample.interval))
        return sample._replace(value=float(sample.value), interval=ends)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return sample


def _cells(row: Mapping[str, str | float]) -> dict[str, str | float]:
    """A row of a table, without numbers that are not finite."""
    cells = {str(column): cell if isinstance(cell, str) else float(cell) for column, cell in row.items()}
    return {column: cell for column, cell in cells.items() if isinstance(cell, str) or math.isfinite(cell)}
