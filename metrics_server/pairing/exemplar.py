"""Exemplars: by which request and trace a number can be followed to one of those that it counts.

Of each series one wrong decision, and one prediction of each bucket of latency: the latest. They are of no consequence
to any number, so they are kept in memory alone, and lost with the process.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, TypeAlias, TypeVar

from metrics_server.metrics.duration_histogram import BOUNDS, LATENCY
from metrics_server.pairing.aggregator import Aggregator
from metrics_server.pairing.batch import Batch, BatchResult
from metrics_server.pairing.merging import ErasureFiling, Filed
from metrics_server.pairing.observation import Entry, Observation
from metrics_server.pairing.record import Contribution
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels

WRONG = -1  # the place of a wrong decision, beside those of the buckets of latency, which are numbered from 0
MOST_SERIES = 10_000  # whose exemplars are kept; those that had one first go first


class Exemplar(NamedTuple):
    """One of those that are counted.

    Attributes:
        trace_id: "" for none.
        request_id: "" for none.
        value: what it adds: 1 to a counter, its seconds to a histogram.
        at: when it was counted, in UTC seconds.
    """

    trace_id: str
    request_id: str
    value: float
    at: float


Key = TypeVar("Key")

Place: TypeAlias = "tuple[int, int]"  # the id of a series, and WRONG or the index of a bucket


class Exemplars:
    """The latest exemplars of all series. One thread changes them, any may read.

    Attributes:
        erasures: how many requests were erased, after which no line that was rendered before may be shown.
    """

    def __init__(self) -> None:
        self._by_series: dict[int, dict[int, Exemplar]] = {}
        self.erasures = 0

    def take(self, batch: TracedBatch) -> None:
        """Takes those of a batch that was committed."""
        for request_id in batch.erased:
            self.forget(request_id)
        for (series_id, place), exemplar in batch.exemplars.items():
            if series_id not in self._by_series and len(self._by_series) >= MOST_SERIES:
                del self._by_series[next(iter(self._by_series))]
            self._by_series.setdefault(series_id, {})[place] = exemplar

    def of(self, series_id: int, place: int) -> Exemplar | None:
        """Returns the exemplar of a place of a series, if there is one."""
        return self._by_series.get(series_id, {}).get(place)

    def forget(self, request_id: str) -> None:
        """Names a request no more."""
        for of_series in self._by_series.values():
            _forget(request_id, of_series)
        self.erasures += 1


def _forget(request_id: str, exemplars: dict[Key, Exemplar]) -> None:
    for key in [key for key, exemplar in exemplars.items() if exemplar.request_id == request_id]:
        del exemplars[key]


class TracedBatch(Batch):
    """A batch that notes exemplars of what it counts.

    Attributes:
        erased: the ids of the requests that were erased.
    """

    _aggregator: _TracedAggregator

    def _make_aggregator(self, registry: SeriesRegistry, now: float, history: int) -> Aggregator:
        self.erased: list[str] = []
        return _TracedAggregator(registry, now, history)

    @property
    def exemplars(self) -> dict[Place, Exemplar]:
        """The latest of each place, by the order of the batch."""
        return self._aggregator.exemplars

    def _match(self, entry: Entry, filed: Filed) -> BatchResult:
        self._aggregator.cause = entry if isinstance(entry, Observation) else None
        if isinstance(filed, ErasureFiling):
            self.erased.append(filed.request_id)
            self._aggregator.forget(filed.request_id)
        return super()._match(entry, filed)


class _TracedAggregator(Aggregator):
    """Notes exemplars of the pairs and latencies that it collects.

    Attributes:
        cause: the observation that is matched.
    """

    def __init__(self, registry: SeriesRegistry, now: float, history: int) -> None:
        super().__init__(registry, now, history)
        self.cause: Observation | None = None
        self.exemplars: dict[Place, Exemplar] = {}

    def apply_pair(self, pair: Contribution, *, first: bool) -> None:
        super().apply_pair(pair, first=first)
        for series_id in self._contributed(pair):
            series = self._registry.get(series_id)
            if series is not None and series.is_wrong(pair.y_true, pair.y_pred):
                self._note(series_id, WRONG, 1.0)

    def latency(self, labels: Labels, seconds: float) -> None:
        super().latency(labels, seconds)
        if (series := self._registry.find(labels)) is not None:
            self._note(series.id, bisect_left(BOUNDS[LATENCY], seconds), seconds)

    def forget(self, request_id: str) -> None:
        """Takes out the exemplars of a request."""
        _forget(request_id, self.exemplars)

    def _note(self, series_id: int, place: int, value: float) -> None:
        cause = self.cause
        if cause is not None and (cause.trace_id or cause.request_id):
            self.exemplars[series_id, place] = Exemplar(cause.trace_id, cause.request_id, value, self._now)
