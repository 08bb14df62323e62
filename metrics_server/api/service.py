"""The JSON API without its HTTP: from the path and query of a request to its response. Any thread may call it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from metrics_server.api import parameters
from metrics_server.api.comparison import comparison_of
from metrics_server.api.groups import GroupReports
from metrics_server.api.history import FEW_POINTS, Step, Steps, checked_steps, steps_of
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
    CanaryVerdict,
    CanaryVerdicts,
    Comparisons,
    FollowedRequests,
    GroupReport,
    Groups,
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
from metrics_server.api.verdict import Question, Verdicts, candidates_of, nothing_to_compare
from metrics_server.errors import BadRequest, StoreUnavailable, not_found
from metrics_server.http.worker_pools import READ_SECONDS, Deadline
from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import edge_of
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.objective import ObjectiveState
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store
from metrics_server.telemetry import Telemetry

MAX_VALUES = 100_000  # in one history
CATCH_UP_SECONDS = 1.0  # that a reader waits for what other servers have committed

Compute: TypeAlias = "Callable[[Evaluator, Series, Sums], list[MetricValue]]"
CatchUp: TypeAlias = "Callable[[Callable[[None], None]], None]"


class Api:
    """Reads series from the registry and the running totals, and histories from the store.

    Every method may raise `BadRequest`, and `model` also `Unavailable`. `segments` are those of a path that name
    something.
    """

    def __init__(
        self,
        registry: SeriesRegistry,
        totals: Totals,
        evaluator: Evaluator,
        store: Store,
        telemetry: Telemetry,
        *,
        group_reports: GroupReports,
        windows: Mapping[str, int],
        history: int,
        verdicts: Verdicts,
        objectives_of: Callable[[int], Sequence[ObjectiveState]],
        catch_up: CatchUp,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Windows and history are lengths in seconds.

        `catch_up` has what other servers have committed taken, and then calls what it is given, in any thread.
        """
        self._registry = registry
        self._totals = totals
        self._evaluator = evaluator
        self._store = store
        self._telemetry = telemetry
        self._group_reports = group_reports
        self._windows = dict(windows)
        self._history = history
        self._verdicts = verdicts
        self._objectives_of = objectives_of
        self._catch_up = catch_up
        self._clock = clock

    def models(self, query: str) -> SeriesList:
        """Lists all series."""
        parameters.read(query, ())
        return SeriesList(models=self.series_summaries(), requests=self.followed_requests())

    def deployment(self, segments: Sequence[str], query: str) -> SeriesList | Comparisons:
        """Lists the series of one deployment, or compares its predictors."""
        arguments = parameters.read(query, parameters.DEPLOYMENT)
        if "compare" in arguments:
            return self.comparisons(segments, arguments)
        if arguments:
            raise BadRequest(f"{next(iter(arguments))}: only together with compare=predictor")
        return SeriesList(models=self.series_summaries(segments), requests=self.followed_requests(segments))

    def groups(self, segments: Sequence[str], query: str) -> Groups:
        """Compares the groups of one deployment with their references."""
        arguments = parameters.read(query, parameters.GROUPS)
        prefix, dimension = tuple(map(label_of, segments)), arguments.get("dimension")
        name = self._window(arguments["window"]) if "window" in arguments else next(iter(self._windows))
        of_deployment = [series for series in self._registry.parents() if series.labels[:2] == prefix]
        if not of_deployment:
            raise not_found("there is no such deployment")
        reports = [each for series in of_deployment for each in self._group_reports.reports(series, name, dimension)]
        if dimension is not None and not reports:
            raise not_found("dimension: it is declared for no groups of this deployment, by --groups")
        now = self._clock()
        return Groups(window=name, since=edge_of(self._windows[name], now), until=now, reports=reports)

    def model(self, segments: Sequence[str], query: str, deadline: Deadline | None = None) -> SeriesReport | History:
        """Reports on a series in its windows, or returns its history unless the deadline passes first."""
        arguments = parameters.read(query, parameters.MODEL)
        parameters.check_alone(arguments, parameters.HISTORY, ("window", "tables", *parameters.COSTS))
        costs = [cost for cost in parameters.COSTS if cost in arguments]
        if costs and not (len(costs) == len(parameters.COSTS) and arguments.get("tables")):
            raise BadRequest(f"{' and '.join(parameters.COSTS)}: want both, and tables=true")
        if any(name in arguments for name in parameters.HISTORY):
            return self.history(segments, arguments, deadline or Deadline())
        return self.series_report(segments, arguments)

    # The methods above parse a query; those below take its arguments, and serve the page too.

    def series_summaries(self, segments: Sequence[str] = ()) -> list[SeriesSummary]:
        """Summarizes the series whose labels begin with those of these segments."""
        prefix, parents = tuple(map(label_of, segments)), self._registry.parents()
        baselines = self._verdicts.baselines(parents)
        return [
            self._summary(series, baselines[series.labels.group])
            for series in parents
            if series.labels[: len(prefix)] == prefix
        ]

    def verdicts(self, segments: Sequence[str], query: str) -> CanaryVerdicts:
        """Judges the predictors of a deployment against their baselines."""
        arguments = parameters.read(query, parameters.VERDICT)
        wanted = {name: arguments[name] for name in ("predictor", "model") if name in arguments}
        return CanaryVerdicts(verdicts=self.canary_verdicts(segments, arguments, **wanted))

    def canary_verdicts(
        self,
        segments: Sequence[str],
        arguments: Mapping[str, Any],
        predictor: str | None = None,
        model: str | None = None,
    ) -> list[CanaryVerdict]:
        """Judges all predictors of a deployment but the baselines, or one of them; by arguments of the query."""
        deployment = tuple(map(label_of, segments))
        of_deployment = [series for series in self._registry.parents() if series.labels[:2] == deployment]
        names = {series.labels.predictor for series in of_deployment}
        baseline = arguments.get("baseline")
        if not of_deployment:
            raise not_found("there is no such deployment")
        if baseline is not None and baseline not in names:
            raise not_found("baseline: the deployment has no such predictor")
        question = Question(*(arguments.get(name) for name in Question._fields))
        pairs = self._verdicts.pairs(of_deployment, baseline)
        candidates = candidates_of(pairs)
        found = [
            self._verdicts.verdict(pair, candidates[pair.baseline.id], question)
            for pair in pairs
            if predictor in (None, pair.candidate.labels.predictor) and model in (None, pair.candidate.labels.model)
        ]
        if found or predictor is None:
            return found
        baselines = self._verdicts.baselines(of_deployment)
        return [
            nothing_to_compare(baselines[group] if baseline is None else baseline, predictor, group[2])
            for group in sorted(baselines)
            if model in (None, group[2])
        ]

    def followed_requests(self, segments: Sequence[str] = ()) -> list[FollowedRequests]:
        """Tells of the deployments whose namespace and name begin with these segments how their requests ended."""
        prefix = tuple(map(label_of, segments))
        return [
            FollowedRequests(namespace=namespace, deployment=name, answered=answered, unanswered=unanswered)
            for (namespace, name), (answered, unanswered) in sorted(self._telemetry.followed_requests.items())
            if (namespace, name)[: len(prefix)] == prefix
        ]

    def series_report(self, segments: Sequence[str], arguments: Mapping[str, Any]) -> SeriesReport:
        """Reports on a series, or a slice of it, in its windows."""
        series = self._series(labels_of(segments), arguments.get("slice"))
        names = [self._window(arguments["window"])] if "window" in arguments else list(self._windows)
        totals, now = self._totals.series_totals(series.id), self._clock()
        series = self._registry.latest(series)
        windows = {name: self._window_report(series, totals.windows[name], name, now, arguments) for name in names}
        slices = self._registry.slices_of(series.labels)
        return report_of(self._evaluator, series, slices, totals, windows, objectives=self._objectives_of(series.id))

    def groups_of(self, segments: Sequence[str], window: str) -> list[GroupReport]:
        """Compares the groups of a series with their references."""
        return self._group_reports.reports(self._series(labels_of(segments), None), self._window(window))

    def slice_summaries(self, segments: Sequence[str], window: str) -> dict[str, WindowSummary]:
        """Summarizes the slices of a series in a window, by name."""
        window = self._window(window)
        parent = self._series(labels_of(segments), None)
        summaries = {}
        for slice_ in self._registry.slices_of(parent.labels):
            sums = self._totals.series_totals(slice_.id).windows[window]
            summaries[slice_.identity.slice] = window_summary_of(self._evaluator, self._registry.latest(slice_), sums)
        return summaries

    def _summary(self, series: Series, baseline: str) -> SeriesSummary:
        totals = self._totals.series_totals(series.id)
        slices = self._registry.slices_of(series.labels)
        return series_summary_of(
            self._evaluator,
            self._registry.latest(series),
            slices,
            totals,
            baseline,
            objectives=self._objectives_of(series.id),
        )

    def _series(self, labels: Labels, slice_name: str | None) -> Series:
        series = self._registry.find(labels)
        if series is None:
            raise not_found("there is no such series")
        if slice_name is None:
            return series
        for slice_ in self._registry.slices_of(labels):
            if slice_.identity.slice == slice_name:
                return slice_
        raise not_found("slice: the series has no such slice")

    def _window(self, name: str) -> str:
        if name not in self._windows:
            raise BadRequest(f"window: want one of {', '.join(self._windows)}")
        return name

    def _window_report(
        self, series: Series, sums: Sums, name: str, now: float, arguments: Mapping[str, Any]
    ) -> WindowReport:
        tables: Mapping[str, Table] | None = self._evaluator.tables(series, sums) if arguments.get("tables") else None
        if tables is not None and parameters.COSTS[0] in arguments:
            tables = with_costs(tables, *(arguments[cost] for cost in parameters.COSTS))
        return window_report_of(self._evaluator, series, sums, (edge_of(self._windows[name], now), now), tables)

    def history(
        self,
        segments: Sequence[str],
        arguments: Mapping[str, Any],
        deadline: Deadline,
        compute: Compute = values_of,
        few: int = FEW_POINTS,
    ) -> History:
        """Computes a series, or a slice of it, step by step.

        Args:
            segments: of the path.
            arguments: of the query.
            deadline: limited here to the time that one history may take.
            compute: the values of a step from its sums; all by default.
            few: the most steps, when the arguments name no step.
        """
        series = self._series(labels_of(segments), arguments.get("slice"))
        since, until, step_seconds = (arguments.get(name) for name in parameters.HISTORY)
        steps = steps_of(since, until, step_seconds, self._clock(), self._history, few=few)
        deadline.limit(READ_SECONDS)
        try:
            points = self._points(series, steps, deadline, compute)
        except StoreUnavailable:
            deadline.check()  # says why, if it was the deadline that ended the stream
            raise
        return History(since=steps.since, until=steps.until, step=steps.step, points=points)

    def _points(self, series: Series, steps: Steps, deadline: Deadline, compute: Compute) -> list[Point]:
        points: list[Point] = []
        values_left = MAX_VALUES
        known: Series | None = None
        with closing(self._store.steps(series.id, *steps, deadline.is_over)) as stored:
            for step in checked_steps(stored, steps):
                deadline.check()
                known = known or self._known_by_now(series)
                point = self._point(known, step, compute)
                values_left -= len(point.values)
                if values_left < 0:
                    raise BadRequest(
                        f"step: more than {MAX_VALUES} values; want longer steps, or less time between `from` and `to`"
                    )
                if point.support > 0 or point.values:
                    points.append(point)
        return points

    def _known_by_now(self, series: Series) -> Series:
        """Returns a series as it is known when what other servers have committed so far was taken.

        To be asked after the first step came: the store may be ahead of the registry, but then every class in the
        sums of the history is known, unless the store is away or takes long.
        """
        is_caught_up = threading.Event()
        self._catch_up(lambda _: is_caught_up.set())
        is_caught_up.wait(CATCH_UP_SECONDS)
        return self._registry.latest(series)

    def _point(self, series: Series, step: Step, compute: Compute) -> Point:
        values = compute(self._evaluator, series, step.sums)
        return Point(since=step.since, until=step.until, support=step.sums.get(PAIRS, 0.0), values=values)

    def comparisons(self, segments: Sequence[str], arguments: Mapping[str, Any]) -> Comparisons:
        """Compares the predictors of a deployment, model by model."""
        prefix = tuple(map(label_of, segments))
        of_deployment = [series for series in self._registry.parents() if series.labels[:2] == prefix]
        baseline, model = arguments.get("baseline"), arguments.get("model")
        window = self._window(arguments["window"]) if "window" in arguments else next(iter(self._windows))
        if baseline is not None and all(series.labels.predictor != baseline for series in of_deployment):
            raise not_found("baseline: the deployment has no such predictor")
        baselines = {model: name for (_, _, model), name in self._verdicts.baselines(of_deployment).items()}
        by_model: dict[str, dict[str, Sequence[MetricValue]]] = {}
        for series in of_deployment:
            if model is None or series.labels.model == model:
                sums = self._totals.series_totals(series.id).windows[window]
                values = values_of(self._evaluator, self._registry.latest(series), sums)
                by_model.setdefault(series.labels.model, {})[series.labels.predictor] = values
        return Comparisons(
            comparisons=[
                comparison_of(name, window, by_predictor, baselines[name] if baseline is None else baseline)
                for name, by_predictor in sorted(by_model.items())
            ]
        )
