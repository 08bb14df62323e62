"""The JSON API without its HTTP: from the path and query of a request to its answer. Any thread may ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from metrics_server.api import parameters as query
from metrics_server.api.comparison import comparison_of
from metrics_server.api.history import FEW_POINTS, Step, steps_of, taken
from metrics_server.api.parameters import label_of, labels_of
from metrics_server.api.responses import (
    report_of,
    series_summary_of,
    values_of,
    window_report_of,
    window_summary_of,
    with_costs,
)
from metrics_server.api.schema import (
    Comparisons,
    History,
    MetricValue,
    Point,
    SeriesList,
    SeriesReport,
    SeriesSummary,
    Table,
    WindowReport,
    WindowSummary,
)
from metrics_server.errors import BadRequest, StoreUnavailable, not_found
from metrics_server.http.worker_pools import READ_SECONDS, Deadline
from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import CUMULATIVE, edge_of
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store

MAX_VALUES = 100_000  # in one history


Read: TypeAlias = "Callable[[Evaluator, Series, Sums], list[MetricValue]]"


class Api:
    """Answers from the catalog and the running totals, and questions about the past from the store.

    Every method may raise `Refusal`, and `model` also `Unavailable`.
    """

    def __init__(
        self,
        registry: SeriesRegistry,
        totals: Totals,
        evaluator: Evaluator,
        store: Store,
        *,
        windows: Mapping[str, int],
        history: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Windows and history are lengths in seconds."""
        self._registry = registry
        self._totals = totals
        self._evaluator = evaluator
        self._store = store
        self._windows = dict(windows)
        self._history = history
        self._clock = clock

    def models(self, asked: str) -> SeriesList:
        """All series."""
        query.read(asked, ())
        return SeriesList(models=self.entries())

    def deployment(self, parts: Sequence[str], asked: str) -> SeriesList | Comparisons:
        """The series of one deployment, or its predictors compared."""
        found = query.read(asked, query.DEPLOYMENT)
        if "compare" in found:
            return self.comparisons(parts, found)
        if found:
            raise BadRequest(f"{next(iter(found))}: only together with compare=predictor")
        return SeriesList(models=self.entries(parts))

    def model(self, parts: Sequence[str], asked: str, deadline: Deadline | None = None) -> SeriesReport | History:
        """A series in its windows, or its history, unless somebody loses patience."""
        found = query.read(asked, query.MODEL)
        query.check_alone(found, query.HISTORY, ("window", "tables", *query.COSTS))
        costs = [cost for cost in query.COSTS if cost in found]
        if costs and not (len(costs) == len(query.COSTS) and found.get("tables")):
            raise BadRequest(f"{' and '.join(query.COSTS)}: want both, and tables=true")
        if any(name in found for name in query.HISTORY):
            return self.history(parts, found, deadline or Deadline())
        return self.reading(parts, found)

    # The same, of what was read from a query. `parts` are those of the path.

    def entries(self, parts: Sequence[str] = ()) -> list[SeriesSummary]:
        """The series whose labels begin with these parts."""
        begin = tuple(map(label_of, parts))
        return [self._entry(series) for series in self._wholes() if series.labels[: len(begin)] == begin]

    def reading(self, parts: Sequence[str], found: Mapping[str, Any]) -> SeriesReport:
        """A series, or a slice of it, in its windows."""
        series = self._series(labels_of(parts), found.get("slice"))
        names = [self._window(found["window"])] if "window" in found else list(self._windows)
        reading, now = self._totals.series_totals(series.id), self._clock()
        windows = {name: self._in_window(series, reading.windows[name], name, now, found) for name in names}
        return report_of(
            self._evaluator, series, self._registry.slices_of(series.labels), reading.cumulative[CUMULATIVE], windows
        )

    def slices(self, parts: Sequence[str], window: str) -> dict[str, WindowSummary]:
        """Where the slices of a series stand in a window, by name."""
        sums_of = self._totals.series_totals
        slices = self._registry.slices_of(self._series(labels_of(parts), None).labels)
        return {
            part.identity.slice: window_summary_of(
                self._evaluator, part, sums_of(part.id).windows[self._window(window)]
            )
            for part in slices
        }

    def _wholes(self) -> list[Series]:
        return [series for series in self._registry.current() if not series.identity.slice]

    def _entry(self, series: Series) -> SeriesSummary:
        reading = self._totals.series_totals(series.id)
        return series_summary_of(
            self._evaluator,
            series,
            self._registry.slices_of(series.labels),
            reading.cumulative[CUMULATIVE],
            reading.windows,
        )

    def _series(self, labels: Labels, part: str | None) -> Series:
        series = self._registry.find(labels)
        if series is None:
            raise not_found("there is no such series")
        if part is not None:
            series = next((one for one in self._registry.slices_of(labels) if one.identity.slice == part), None)
        if series is None:
            raise not_found("slice: the series has no such slice")
        return series

    def _window(self, name: str) -> str:
        if name not in self._windows:
            raise BadRequest(f"window: want one of {', '.join(self._windows)}")
        return name

    def _in_window(self, series: Series, sums: Sums, name: str, now: float, found: Mapping[str, Any]) -> WindowReport:
        tables: Mapping[str, Table] | None = self._evaluator.tables(series, sums) if found.get("tables") else None
        if tables is not None and query.COSTS[0] in found:
            tables = with_costs(tables, *(found[cost] for cost in query.COSTS))
        return window_report_of(self._evaluator, series, sums, (edge_of(self._windows[name], now), now), tables)

    def history(
        self,
        parts: Sequence[str],
        found: Mapping[str, Any],
        deadline: Deadline,
        read: Read = values_of,
        few: int = FEW_POINTS,
    ) -> History:
        """A series, or a slice of it, step by step, with all values or those that are read; a few steps, when none is
        asked for.
        """
        series = self._series(labels_of(parts), found.get("slice"))
        steps = steps_of(found.get("from"), found.get("to"), found.get("step"), self._clock(), self._history, few=few)
        deadline.limit(READ_SECONDS)
        points: list[Point] = []
        room = MAX_VALUES
        try:
            with closing(self._store.steps(series.id, *steps, deadline.is_over)) as stretches:
                for step in taken(stretches, steps):
                    deadline.check()
                    point = self._point(series, step, read)
                    room -= len(point.values)
                    if room < 0:
                        raise BadRequest(
                            f"step: more than {MAX_VALUES} values; want longer steps, or less time between `from` and `to`"
                        )
                    if point.support > 0 or point.values:
                        points.append(point)
        except StoreUnavailable:
            deadline.check()
            raise
        return History(since=steps.since, until=steps.until, step=steps.step, points=points)

    def _point(self, series: Series, step: Step, read: Read) -> Point:
        values = read(self._evaluator, series, step.sums)
        return Point(since=step.since, until=step.until, support=step.sums.get(PAIRS, 0.0), values=values)

    def comparisons(self, parts: Sequence[str], found: Mapping[str, Any]) -> Comparisons:
        """The predictors of a deployment beside each other."""
        series = [one for one in self._wholes() if one.labels[:2] == tuple(map(label_of, parts))]
        baseline, model = found.get("baseline"), found.get("model")
        name = self._window(found["window"]) if "window" in found else next(iter(self._windows))
        if baseline is not None and all(one.labels.predictor != baseline for one in series):
            raise not_found("baseline: the deployment has no such predictor")
        groups: dict[str, dict[str, Series]] = {}
        for one in series:
            if model is None or one.labels.model == model:
                groups.setdefault(one.labels.model, {})[one.labels.predictor] = one
        return Comparisons(
            comparisons=[
                comparison_of(
                    label, name, {predictor: self._values(one, name) for predictor, one in group.items()}, baseline
                )
                for label, group in sorted(groups.items())
            ]
        )

    def _values(self, series: Series, window: str) -> Any:
        return values_of(self._evaluator, series, self._totals.series_totals(series.id).windows[window])
