"""Readings: the values of a series, from its sums. The page for Prometheus, the JSON API and the replay show the
same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import NamedTuple

from metrics_server.metrics import prediction_stats, reward_stats, value
from metrics_server.metrics.components import LOGGED, PAIRS
from metrics_server.metrics.confidence import WEIGHT_EXCESS, effective_weight
from metrics_server.metrics.custom_metric import ALL, CustomMetric, CustomType, takes
from metrics_server.metrics.duration_histogram import cumulated
from metrics_server.metrics.group import SELECTION, Rate, Rated
from metrics_server.metrics.model import VOCABULARIES_DIFFER, AncestorCounting, Counting, Sample, Tabular
from metrics_server.metrics.sequential.estimate import Sequential, SequentialEstimate
from metrics_server.metrics.sums import Sums, add_into
from metrics_server.metrics.value import NoValue, Valued, ValueMatrix
from metrics_server.metrics.window import CUMULATIVE
from metrics_server.series.families import DECLARED, is_exposable
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import SeriesTotals

logger = logging.getLogger(__name__)

# What the server itself says of every series; a metric model may not say it again.
OF_SERVER = (
    "model_support",
    "model_reward",
    "model_output",
    "model_label",
    "model_predict",
    "model_last",
    *(f"model_{name}" for name in value.GAUGES),
)


class CustomReading(NamedTuple):
    """What a custom metric has come to.

    Attributes:
        value: of a timer the sum of its durations, in seconds.
        at: the time that the value of a gauge is of.
        buckets: of a timer: (bound, durations up to it).
    """

    metric: CustomMetric
    value: float
    at: float | None = None
    buckets: Sequence[tuple[str, float]] = ()


class Evaluator:
    """Reads values from sums. It holds no state but what it has warned of, and may be used by any thread."""

    def __init__(
        self,
        max_exported_classes: int,
        min_support: int,
        custom_metrics_of: Callable[[Labels], Collection[str]] = lambda labels: (ALL,),
        value_matrix_of: Callable[[Labels], ValueMatrix | None] = lambda labels: None,
    ) -> None:
        """Values that rest on fewer than `min_support` pairs, or rows, are left out; and so are custom metrics that
        `custom_metrics_of` does not name for their series. `value_matrix_of` tells what their pairs are worth.
        It and `min_support` may be replaced.
        """
        self._custom_metrics_of = custom_metrics_of
        self.value_matrix_of = value_matrix_of
        self._max_exported_classes = max_exported_classes
        self.min_support = min_support
        self._refused: set[str] = set()
        self._differing: set[Labels] = set()
        self._unvalued: set[Labels] = set()

    def exported(self, series: Series) -> list[str]:
        """The classes with values of their own."""
        return list(series.classes)[: self._max_exported_classes]

    def values_by_window(self, series: Series, windows: Mapping[str, Sums]) -> Iterator[tuple[str, Sequence[Sample]]]:
        """The values of each window; read once for windows with equal sums, as a young or a quiet series has them."""
        found: list[tuple[Sums, list[Sample]]] = []
        for window, sums in windows.items():
            samples = next((samples for known, samples in found if known == sums), None)
            if samples is None:
                samples = list(self.values(series, sums))
                found.append((sums, samples))
            yield window, samples

    def values(self, series: Series, sums: Sums) -> Iterator[Sample]:
        """The values of one window, or of one step of the history. Undefined ones are not yielded."""
        support, logged = sums.get(PAIRS, 0.0), sums.get(LOGGED, 0.0)
        if support > 0:
            yield Sample("support", {}, support)
            samples: Iterable[Sample] = ()
            if series.model is not None:
                noted = self._noted(series, partial(series.model.compute, sums))
                samples = chain(noted, self._worth(series, sums))
            yield from self._supported(_unweighted(samples, sums) if WEIGHT_EXCESS in sums else samples, support)
        if logged > 0 and support <= logged:
            yield Sample("label_coverage_ratio", {}, support / logged, support=logged)
        yield from self._supported(reward_stats.compute(sums), support)
        yield from self._supported(prediction_stats.compute(sums), support)
        if series.has_classes or (not series.task and series.classes):
            yield from self._supported(
                prediction_stats.shares(sums, series.classes, self._max_exported_classes), support
            )

    def _supported(self, samples: Iterable[Sample], support: float) -> Iterator[Sample]:
        least = self.min_support - 1e-9  # sums of weights may be off by a rounding error
        return (sample for sample in samples if (support if sample.support is None else sample.support) >= least)

    def counts(self, series: Series, ever: Sums, retracted: Sums) -> Iterator[Sample]:
        """Tells what the metric model counts, ever, and what corrections took back."""
        if isinstance(series.model, Counting):
            yield from self._valid(partial(series.model.counts, ever))
            for sample in self._valid(partial(series.model.counts, retracted)):
                yield sample._replace(name=f"{sample.name}_retracted")

    def ancestor_counts(self, series: Series, ever: Sums, reapplied: Sums) -> Iterator[Sample]:
        """The same in the ancestor's vocabulary, over the first truth of each prediction."""
        if isinstance(series.model, AncestorCounting):
            first = dict(ever)
            add_into(first, reapplied, -1)
            yield from self._valid(partial(series.model.ancestor_counts, first))

    def custom_metrics(self, series: Series, totals: SeriesTotals) -> Iterator[CustomReading]:
        """Tells what the custom metrics of a series have come to, sorted."""
        if not series.custom_metrics:
            return
        names, ever = self._custom_metrics_of(series.labels), totals.cumulative[CUMULATIVE]
        for metric in sorted(series.custom_metrics):
            name = metric.component
            if not takes(names, metric.key):
                continue
            if metric.type is CustomType.COUNTER:
                yield CustomReading(metric, ever.get(name, 0.0))
            elif (histogram := cumulated(name, ever)) is not None:
                yield CustomReading(metric, histogram[1], buckets=histogram[0])
            elif (register := totals.registers.get(name)) is not None:
                yield CustomReading(metric, register.value, register.at)

    def estimate(self, series: Series, name: str, sums: Sums) -> SequentialEstimate | None:
        """The estimate of a value whose interval holds at every look; None where there is none."""
        if not isinstance(series.model, Sequential):
            return None
        try:
            return series.model.estimate(name, sums)
        except Exception as error:  # noqa: BLE001 - of a user's metric model
            self._warn(error)
            return None

    def tables(self, series: Series, sums: Sums) -> Mapping[str, list[dict[str, str | float]]]:
        """The curves of one window."""
        if not isinstance(series.model, Tabular) or not sums.get(PAIRS):
            return {}
        try:
            return {str(name): [_cells(row) for row in rows] for name, rows in series.model.tables(sums).items()}
        except Exception as error:  # noqa: BLE001 - of a user's metric model
            self._warn(error)
            return {}

    def rates(self, series: Series, sums: Sums) -> list[Rate]:
        """The rates that groups are compared by, of one window."""
        if not isinstance(series.model, Rated) or not sums.get(PAIRS):
            return []
        try:
            return [rate for rate in series.model.rates(sums) if _is_readable(rate)]
        except Exception as error:  # noqa: BLE001 - of a user's metric model
            self._warn(error)
            return []

    def _worth(self, series: Series, sums: Sums) -> Iterator[Sample]:
        """What the pairs were worth, where that is declared."""
        matrix = self.value_matrix_of(series.labels)
        if matrix is None:
            return
        if not isinstance(series.model, Valued):
            self._warn_unvalued(series, "its metric model has no classes")
            return
        matrix = matrix.labelled(series.identity.scoring.class_names, is_binary=series.task == "binary")
        try:
            yield from value.readings(matrix, series.model, sums)
        except NoValue:
            self._warn_unvalued(series, "it has pairs of other classes than those two; give right, wrong and cells")
        except Exception as error:  # noqa: BLE001 - of a user's metric model
            self._warn(error)

    def _warn_unvalued(self, series: Series, why: str) -> None:
        if series.labels not in self._unvalued:
            self._unvalued.add(series.labels)
            logger.warning("The value_matrix for %s is of no use: %s", "/".join(series.labels), why)

    def _noted(self, series: Series, read: Callable[[], Iterable[Sample]]) -> Iterator[Sample]:
        """Samples that may be exposed; logs once of a series that its pairs are of two vocabularies."""
        for sample in self._valid(read):
            if sample.name == VOCABULARIES_DIFFER and series.labels not in self._differing:
                self._differing.add(series.labels)
                logger.warning(
                    "The %s of %s are all indexes and the other side of its pairs all names, so none can be right: "
                    "--class_names says which index has which name",
                    sample.labels["indexes"],
                    "/".join(series.labels),
                )
            yield sample

    def _warn(self, error: Exception) -> None:
        if (name := type(error).__name__) not in self._refused:
            self._refused.add(name)
            logger.warning("A metric model cannot be read: %s: %s", name, error)

    def _valid(self, read: Callable[[], Iterable[Sample]]) -> Iterator[Sample]:
        """Samples that may be exposed, as they are read; a user's metric model may yield or raise anything."""
        try:
            for sample in read():
                if sample.labels.keys() == DECLARED.get(sample.name) and _is_plain(sample):
                    yield sample
                elif (plain := self._checked(sample)) is not None:
                    yield plain
        except Exception as error:  # noqa: BLE001 - of a user's metric model; the other series must not suffer
            self._warn(error)

    def _checked(self, sample: Sample) -> Sample | None:
        """The same with plain floats; None if it cannot be exposed."""
        if _has_names(sample) and (plain := sample if _is_plain(sample) else _plain(sample)) is not None:
            return plain
        if sample.name not in self._refused:
            self._refused.add(sample.name)
            logger.warning("A metric model yields %r, whose name, labels or numbers cannot be exposed", sample.name)
        return None


def _has_names(sample: Sample) -> bool:
    """Tells whether a sample that nobody declared may be exposed under its names."""
    return isinstance(sample.name, str) and _are_exposable(sample.name, tuple(sample.labels))


_are_exposable = lru_cache(1000)(is_exposable)  # the same few names come in every scrape


def _plain(sample: Sample) -> Sample | None:
    """The same with plain floats: numpy's say of what type they are when they are written. None if it has other than
    finite numbers.
    """
    ends, support = sample.interval, sample.support
    try:
        lower_upper = None if ends is None else (float(ends[0]), float(ends[1]))
        plain = sample._replace(
            value=float(sample.value), interval=lower_upper, support=None if support is None else float(support)
        )
    except (TypeError, ValueError, LookupError):
        return None
    return plain if _is_plain(plain) else None


def _is_plain(sample: Sample) -> bool:
    """Tells whether all its numbers are finite floats; asked for every sample of a page."""
    _, _, value, ends, support = sample
    if type(value) is not float or value - value or not (support is None or type(support) is float):
        return False
    if ends is None:
        return True
    if type(ends) is not tuple or len(ends) != 2:
        return False
    lower, upper = ends
    return type(lower) is float is type(upper) and not lower - lower and not upper - upper


def _is_readable(rate: Rate) -> bool:
    """Tells whether it is a share that can be exposed, and says of which class where it has to."""
    is_share = 0 <= rate.successes <= rate.trials and 0 < rate.trials < math.inf
    return is_share and is_exposable(rate.name, rate.labels) and (rate.name != SELECTION or "class" in rate.labels)


def _unweighted(samples: Iterable[Sample], sums: Sums) -> Iterator[Sample]:
    """The same with the support that pairs of equal weight would need to tell as much: sums of weights have any
    unit.
    """
    share = effective_weight(sums, sums.get("pairs", 0.0))
    for sample in samples:
        yield sample if sample.support is None else sample._replace(support=sample.support * share)


def _cells(row: Mapping[str, str | float]) -> dict[str, str | float]:
    """A row of a table, without numbers that are not finite."""
    cells = {str(column): cell if isinstance(cell, str) else float(cell) for column, cell in row.items()}
    return {column: cell for column, cell in cells.items() if isinstance(cell, str) or math.isfinite(cell)}
