"""The JSON API without its HTTP: from the path and query of a request to its answer. Any thread may ask."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from metrics_server import query
from metrics_server.api_answer import (
    Comparisons,
    History,
    Point,
    Reading,
    Table,
    Value,
    WindowReading,
    reading_of,
    values_of,
    window_of,
    with_costs,
)
from metrics_server.catalog import Catalog
from metrics_server.comparison import comparison_of
from metrics_server.errors import StoreUnavailable, Unavailable
from metrics_server.history import FEW_POINTS, Step, steps_of, taken
from metrics_server.ledger import PAIRS
from metrics_server.listing import Entries, Entry, Standing, entry_of, standing_of
from metrics_server.query import Refusal, label_of, labels_of, not_found
from metrics_server.readings import Reader
from metrics_server.series import Labels, Series
from metrics_server.store.interface import Store
from metrics_server.sums import Sums
from metrics_server.totals import Totals
from metrics_server.window import EVER, edge_of

WAIT_SECONDS = 10.0  # for a turn; who waited longer has mostly left, and whoever comes now would wait behind it
READ_SECONDS = 10.0  # for one history
MAX_VALUES = 100_000  # in one history


Read: TypeAlias = "Callable[[Reader, Series, Sums], list[Value]]"


class Patience:
    """Whether somebody waits for an answer, and for how long. Made when the question comes; any thread may end it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came = clock()
        self._latest = math.inf
        self._end = ""

    def end(self, why: str) -> None:
        """Nobody waits any more."""
        self._end = why

    def begin(self) -> None:
        """The question's turn has come; raises `Unavailable` if that took too long, or nobody waits."""
        if self._clock() > self._came + WAIT_SECONDS:
            self.end("too much is asked at once")
        self.check()

    def limit(self, seconds: float) -> None:
        """It may take so long in all, from the first time that this is said."""
        self._latest = min(self._latest, self._clock() + seconds)

    def is_over(self) -> bool:
        return bool(self._end) or self._clock() > self._latest

    def check(self) -> None:
        """Raises what ended it."""
        if self._end:
            raise Unavailable(self._end)
        if self.is_over():
            raise Refusal(f"from: to read so much takes longer than {READ_SECONDS:g} s; want less time between `from` and `to`")


class Api:
    """Answers from the catalog and the running totals, and questions about the past from the store.

    Every method may raise `Refusal`, and `model` also `Unavailable`.
    """

    def __init__(
        self,
        catalog: Catalog,
        totals: Totals,
        reader: Reader,
        store: Store,
        *,
        windows: Mapping[str, int],
        history: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Windows and history are lengths in seconds."""
        self._catalog = catalog
        self._totals = totals
        self._reader = reader
        self._store = store
        self._windows = dict(windows)
        self._history = history
        self._clock = clock

    def models(self, asked: str) -> Entries:
        """All series."""
        query.read(asked, ())
        return Entries(models=self.entries())

    def deployment(self, parts: Sequence[str], asked: str) -> Entries | Comparisons:
        """The series of one deployment, or its predictors compared."""
        found = query.read(asked, query.DEPLOYMENT)
        if "compare" in found:
            return self.comparisons(parts, found)
        if found:
            raise Refusal(f"{next(iter(found))}: only together with compare=predictor")
        return Entries(models=self.entries(parts))

    def model(self, parts: Sequence[str], asked: str, patience: Patience | None = None) -> Reading | History:
        """A series in its windows, or its history, unless somebody loses patience."""
        found = query.read(asked, query.MODEL)
        query.check_alone(found, query.HISTORY, ("window", "tables", *query.COSTS))
        costs = [cost for cost in query.COSTS if cost in found]
        if costs and not (len(costs) == len(query.COSTS) and found.get("tables")):
            raise Refusal(f"{' and '.join(query.COSTS)}: want both, and tables=true")
        if any(name in found for name in query.HISTORY):
            return self.history(parts, found, patience or Patience())
        return self.reading(parts, found)

    # The same, of what was read from a query. `parts` are those of the path.

    def entries(self, parts: Sequence[str] = ()) -> list[Entry]:
        """The series whose labels begin with these parts."""
        begin = tuple(map(label_of, parts))
        return [self._entry(series) for series in self._wholes() if series.labels[: len(begin)] == begin]

    def reading(self, parts: Sequence[str], found: Mapping[str, Any]) -> Reading:
        """A series, or a slice of it, in its windows."""
        series = self._series(labels_of(parts), found.get("slice"))
        names = [self._window(found["window"])] if "window" in found else list(self._windows)
        reading, now = self._totals.reading(series.id), self._clock()
        windows = {name: self._in_window(series, reading.windows[name], name, now, found) for name in names}
        return reading_of(self._reader, series, self._catalog.slices_of(series.labels), reading.ledgers[EVER], windows)

    def slices(self, parts: Sequence[str], window: str) -> dict[str, Standing]:
        """Where the slices of a series stand in a window, by name."""
        sums_of = self._totals.reading
        slices = self._catalog.slices_of(self._series(labels_of(parts), None).labels)
        return {part.identity.slice: standing_of(self._reader, part, sums_of(part.id).windows[self._window(window)]) for part in slices}

    def _wholes(self) -> list[Series]:
        return [series for series in self._catalog.current() if not series.identity.slice]

    def _entry(self, series: Series) -> Entry:
        reading = self._totals.reading(series.id)
        return entry_of(self._reader, series, self._catalog.slices_of(series.labels), reading.ledgers[EVER], reading.windows)

    def _series(self, labels: Labels, part: str | None) -> Series:
        series = self._catalog.find(labels)
        if series is None:
            raise not_found("there is no such series")
        if part is not None:
            series = next((one for one in self._catalog.slices_of(labels) if one.identity.slice == part), None)
        if series is None:
            raise not_found("slice: the series has no such slice")
        return series

    def _window(self, name: str) -> str:
        if name not in self._windows:
            raise Refusal(f"window: want one of {', '.join(self._windows)}")
        return name

    def _in_window(self, series: Series, sums: Sums, name: str, now: float, found: Mapping[str, Any]) -> WindowReading:
        tables: Mapping[str, Table] | None = self._reader.tables(series, sums) if found.get("tables") else None
        if tables is not None and query.COSTS[0] in found:
            tables = with_costs(tables, *(found[cost] for cost in query.COSTS))
        return window_of(self._reader, series, sums, (edge_of(self._windows[name], now), now), tables)

    def history(
        self, parts: Sequence[str], found: Mapping[str, Any], patience: Patience, read: Read = values_of, few: int = FEW_POINTS
    ) -> History:
        """A series, or a slice of it, step by step, with all values or those that are read; a few steps, when none is asked for."""
        series = self._series(labels_of(parts), found.get("slice"))
        steps = steps_of(found.get("from"), found.get("to"), found.get("step"), self._clock(), self._history, few=few)
        patience.limit(READ_SECONDS)
        points: list[Point] = []
        room = MAX_VALUES
        try:
            with closing(self._store.steps(series.id, *steps, patience.is_over)) as stretches:
                for step in taken(stretches, steps):
                    patience.check()
                    point = self._point(series, step, read)
                    room -= len(point.values)
                    if room < 0:
                        raise Refusal(f"step: more than {MAX_VALUES} values; want longer steps, or less time between `from` and `to`")
                    if point.support > 0 or point.values:
                        points.append(point)
        except StoreUnavailable:
            patience.check()
            raise
        return History(since=steps.since, until=steps.until, step=steps.step, points=points)

    def _point(self, series: Series, step: Step, read: Read) -> Point:
        values = read(self._reader, series, step.sums)
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
                comparison_of(label, name, {predictor: self._values(one, name) for predictor, one in group.items()}, baseline)
                for label, group in sorted(groups.items())
            ]
        )

    def _values(self, series: Series, window: str) -> Any:
        return values_of(self._reader, series, self._totals.reading(series.id).windows[window])
