"""Verdicts: whether a predictor is better than its baseline, from the sums since both were there."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import UNSET

from metrics_server.api.comparison import baselines_of
from metrics_server.api.schema import CanaryArm, CanaryVerdict, PairedCounts, TrafficShare
from metrics_server.errors import BadRequest, StoreUnavailable
from metrics_server.metrics.components import COMPARED, LOGGED, LOST, PAIRS, WON, paired
from metrics_server.metrics.duration_histogram import label_wait
from metrics_server.metrics.sequential.estimate import SequentialEstimate, better_of, difference, is_ready
from metrics_server.metrics.sequential.paired import ACCURACY, paired_verdict
from metrics_server.metrics.sequential.verdict import Arm, Verdict, compare, split_differs
from metrics_server.metrics.sums import Sums, add_into, total
from metrics_server.metrics.window import CUMULATIVE, DAY, MINUTE, ceiling, edge_of, floor, oldest_start, width_at
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import PREFIX
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store

MOSTLY = 0.9  # of its labelled rows a shadow shares with the baseline
EVER = 2**40  # seconds: one step that holds all
KEPT_SECONDS = 15.0  # how old a verdict of a scrape may be
PATIENCE_SECONDS = 2.0  # that a scrape waits for those that are due


class Decision(NamedTuple):
    """What is declared of the comparisons of a deployment.

    Attributes:
        margin: how large a difference does not matter, in units of the metric.
        traffic: the share of requests of each predictor, in any unit.
    """

    margin: float = 0.0
    traffic: Mapping[str, float] = {}


class Question(NamedTuple):
    """What is asked beside what is declared; None where it is not.

    Attributes:
        metric: the name of the value that decides, as on /v1/metrics.
        margin: see `Decision`.
        since: Unix seconds.
    """

    metric: str | None = None
    margin: float | None = None
    since: float | None = None


NOTHING_ASKED = Question()


class Pair(NamedTuple):
    """A candidate and what it is compared with."""

    candidate: Series
    baseline: Series


class _Reading(NamedTuple):
    """The sums of a series since a second: all of them, and those old enough for their labels to have come."""

    series: Series
    sums: Sums
    old: Sums

    def arm(self, estimate: SequentialEstimate) -> Arm:
        return Arm(estimate, self.old.get(LOGGED, 0.0), self.old.get(PAIRS, 0.0))


class Verdicts:
    """Compares predictors by the sums since the younger began. It only reads; any thread may call it."""

    def __init__(
        self,
        registry: SeriesRegistry,
        totals: Totals,
        evaluator: Evaluator,
        store: Store,
        *,
        history: int,
        declared_baseline: Callable[[Labels], str | None],
        decision_of: Callable[[Labels], Decision],
        clock: Callable[[], float],
    ) -> None:
        """The history is in seconds; a declared baseline is the name of a predictor."""
        self._registry = registry
        self._totals = totals
        self._evaluator = evaluator
        self._store = store
        self._history = history
        self._declared_baseline = declared_baseline
        self._decision_of = decision_of
        self._clock = clock

    def baselines(self, parents: Sequence[Series]) -> dict[tuple[str, str, str], str]:
        """Returns the predictor that the others are compared with, by namespace, deployment and model."""
        return baselines_of(self._registry.first_seen_at(parents), self._declared_baseline)

    def all_pairs(self) -> list[Pair]:
        """Lists what there is to compare in all deployments."""
        return self.pairs(self._registry.parents())

    def pairs(self, parents: Sequence[Series], baseline: str | None = None) -> list[Pair]:
        """Lists what there is to compare among series, with the baseline of this name or with that of each."""
        chosen = self.baselines(parents)
        by_labels = {series.labels: series for series in parents}
        pairs = []
        for series in parents:
            name = chosen[series.labels.group] if baseline is None else baseline
            other = by_labels.get(series.labels._replace(predictor=name))
            if other is not None and other is not series:
                pairs.append(Pair(series, other))
        return pairs

    def verdict(self, pair: Pair, candidates: int, question: Question = NOTHING_ASKED) -> CanaryVerdict:
        """Compares a candidate with its baseline.

        Args:
            pair: the two.
            candidates: how many have this baseline, and share the rate of errors.
            question: what is asked beside what is declared.

        Raises:
            BadRequest: the metric has no verdict.
            StoreUnavailable: the sums cannot be read.
        """
        now, decision = self._clock(), self._decision_of(pair.candidate.labels)
        margin = decision.margin if question.margin is None else question.margin
        since = _beginning(pair) if question.since is None else _bucket_from(question.since, now)
        answer = _Answer(pair, candidates, margin, since)
        if since < oldest_start(now, self._history):
            return answer.undecided("it began longer ago than --history, so its first labels are gone")
        candidate, baseline = self._read(pair, since, now)
        answer.arms = [_arm(candidate), _arm(baseline)]
        answer.traffic = _traffic(candidate, baseline, decision.traffic)
        models = {one.series.parameters.get("model") for one in (candidate, baseline)}
        if None in models:
            return answer.undecided(_NO_LABELS)
        if len(models) > 1:
            return answer.undecided("the two are scored by different metric models")
        name = self._metric(candidate, baseline, question.metric)
        if not (candidate.sums.get(PAIRS) and baseline.sums.get(PAIRS)):
            return answer.undecided(_NO_LABELS)
        answer.paired = _paired(candidate.sums, baseline.series.id)
        return answer.undecided(_NO_VALUE) if name is None else self._compared(answer, name, candidate, baseline)

    def _compared(self, answer: _Answer, name: str, candidate: _Reading, baseline: _Reading) -> CanaryVerdict:
        answer.metric = PREFIX + name
        ours, theirs = (self._evaluator.estimate(one.series, name, one.sums) for one in (candidate, baseline))
        for arm, estimate in zip(answer.arms, (ours, theirs), strict=True):
            arm.value = UNSET if estimate is None else estimate.value
        if name == ACCURACY and answer.paired is not None and answer.is_shadow:
            # The two are not independent: only rows that one alone got right count.
            verdict = paired_verdict(answer.paired.won, answer.paired.lost, candidates=answer.candidates)
            return answer.given(verdict, _SHADOW_DETAILS[verdict])
        if ours is None or theirs is None:
            return answer.undecided(_NO_VALUE)
        better = better_of(candidate.series.model, name)
        gain = difference(ours, theirs, better=better, candidates=answer.candidates)
        if gain is None:
            return answer.undecided(_why_not_ready(ours, theirs))
        answer.difference = better * (ours.value - theirs.value), *gain
        verdict = compare(
            candidate.arm(ours), baseline.arm(theirs), margin=answer.margin, better=better, candidates=answer.candidates
        )
        return answer.given(verdict, _DETAILS[verdict])

    def _read(self, pair: Pair, since: int, now: float) -> tuple[_Reading, _Reading]:
        """Reads the sums of both, by the same age of predictions."""
        until = max(since, edge_of(math.ceil(label_wait(self._delays(pair)) or MINUTE), now))
        readings = []
        for series in pair:
            old, recent = self._sums(series, since, until), self._sums(series, until, EVER)
            readings.append(_Reading(self._registry.latest(series), total((old, recent)), old))
        return readings[0], readings[1]

    def _sums(self, series: Series, since: int, until: int) -> Sums:
        if since >= until:
            return {}
        with closing(self._store.steps(series.id, since, until, EVER)) as steps:
            return total(step.sums for step in steps)

    def _delays(self, pair: Pair) -> Sums:
        delays = dict(self._totals.cumulative(CUMULATIVE, pair.baseline.id))
        add_into(delays, self._totals.cumulative(CUMULATIVE, pair.candidate.id))
        return delays

    def _metric(self, candidate: _Reading, baseline: _Reading, asked: str | None) -> str | None:
        """The value that decides: the one that is asked for, else the first that both have an estimate of."""
        names = _sequential_names(candidate.series)
        if asked is not None:
            if (name := asked.removeprefix(PREFIX)) not in names:
                raise BadRequest(f"metric: want one of {', '.join(PREFIX + each for each in names)}")
            return name
        for name in names:
            if all(self._evaluator.estimate(one.series, name, one.sums) for one in (candidate, baseline)):
                return name
        return None


_NO_LABELS = "one of them has no labels yet"
_NO_VALUE = "no value of their metric model has an interval that holds at every look"
_DETAILS = {
    Verdict.BETTER: "the interval of the difference is above the margin",
    Verdict.WORSE: "the interval of the difference is below minus the margin",
    Verdict.EQUIVALENT: "the interval of the difference is within the margin",
    Verdict.UNDECIDED: "the interval of the difference reaches over the margin: more labels are needed",
    Verdict.INCOMPARABLE: "their labelled shares differ, and the missing labels could change the verdict",
}


_SHADOW_DETAILS = {
    Verdict.BETTER: "of the rows that one alone got right, it got too many to be as good",
    Verdict.WORSE: "of the rows that one alone got right, the baseline got too many to be as good",
    Verdict.UNDECIDED: "both answer the same rows, and too few of these one alone got right",
}


@dataclass
class _Answer:
    """Collects what there is to say of a pair."""

    pair: Pair
    candidates: int
    margin: float
    since: int
    metric: str | None = None
    arms: list[CanaryArm] = field(default_factory=list)
    traffic: TrafficShare | None = None
    difference: tuple[float, float, float] | None = None  # with the ends of its interval
    paired: PairedCounts | None = None

    @property
    def is_shadow(self) -> bool:
        """Whether nearly all labelled rows of the candidate are rows of the baseline too."""
        return self.paired is not None and self.paired.both >= MOSTLY * self.arms[0].support

    def undecided(self, detail: str) -> CanaryVerdict:
        return self.given(Verdict.UNDECIDED, detail)

    def given(self, verdict: Verdict, detail: str) -> CanaryVerdict:
        labels = self.pair.candidate.labels
        value, lower, upper = self.difference or (UNSET, UNSET, UNSET)
        return CanaryVerdict(
            model=labels.model,
            predictor=labels.predictor,
            baseline=self.pair.baseline.labels.predictor,
            metric=self.metric,
            verdict=verdict.value,
            detail=detail,
            since=float(self.since),
            margin=self.margin,
            candidates=self.candidates,
            difference=value,
            lower=lower,
            upper=upper,
            arms=self.arms,
            traffic=self.traffic or UNSET,
            paired=self.paired or UNSET,
        )


def nothing_to_compare(baseline: str, predictor: str, model: str) -> CanaryVerdict:
    """What is said of a predictor that has not been seen, or is itself the baseline: whoever asks will ask again."""
    return CanaryVerdict(
        model=model,
        predictor=predictor,
        baseline=baseline,
        metric=None,
        verdict="undecided",
        detail="it is the baseline: nothing else has come" if predictor == baseline else "no event of it has come yet",
        since=None,
        margin=0.0,
        candidates=1,
        arms=[],
    )


def _beginning(pair: Pair) -> int:
    """The second from which on both were there, at which their buckets are split.

    A series that came when too many did has no split of its own; a midnight is one of all.
    """
    younger = max(pair, key=lambda series: series.created_at)
    if younger.split_at is None:
        return floor(younger.created_at, DAY)
    return max(series.split_at for series in pair if series.split_at is not None)


def _bucket_from(since: float, now: float) -> int:
    """The start of the first bucket that begins at this time or later."""
    return ceiling(since, width_at(max(0, math.ceil(now - since))))


def _sequential_names(series: Series) -> list[str]:
    """Lists the values of a series of which more is better or worse, in the order of its model; none of a class."""
    return [name for name in getattr(series.model, "families", {}) if better_of(series.model, name)]


def _why_not_ready(ours: SequentialEstimate, theirs: SequentialEstimate) -> str:
    if is_ready(ours) and is_ready(theirs):
        return "the two have not met the same classes, so their values are not of the same thing"
    return "one of them has too few labels for an interval, or too few of a class"


def _arm(reading: _Reading) -> CanaryArm:
    return CanaryArm(
        predictor=reading.series.labels.predictor,
        support=reading.sums.get(PAIRS, 0.0),
        predictions=reading.old.get(LOGGED, 0.0),
        labelled=reading.old.get(PAIRS, 0.0),
    )


def _paired(sums: Sums, other: int) -> PairedCounts | None:
    """The rows that both answered, and on which one alone was right; None without any."""
    both, won, lost = (sums.get(paired(other, what), 0.0) for what in (COMPARED, WON, LOST))
    return PairedCounts(both=both, won=won, lost=lost) if both > 0 else None


def _traffic(candidate: _Reading, baseline: _Reading, declared: Mapping[str, float]) -> TrafficShare | None:
    """The candidate's share of the rows of both, beside the declared one; None where nothing is declared."""
    wanted = [declared.get(one.series.labels.predictor, 0.0) for one in (candidate, baseline)]
    ours, theirs = (one.sums.get(LOGGED, 0.0) for one in (candidate, baseline))
    if not all(wanted) or not ours + theirs:
        return None
    share = wanted[0] / sum(wanted)
    return TrafficShare(
        declared=share, observed=ours / (ours + theirs), differs=split_differs(ours, ours + theirs, share)
    )


class _Kept(NamedTuple):
    at: float
    labels: Labels
    verdict: CanaryVerdict


class KeptVerdicts:
    """The verdicts of all deployments as scrapes show them: not computed anew for each.

    They are read from the store by a thread of their own, so that a store that hangs holds up no scrape.
    """

    def __init__(
        self, verdicts: Verdicts, clock: Callable[[], float] = time.monotonic, patience: float = PATIENCE_SECONDS
    ) -> None:
        """`patience` is how long, in seconds, one scrape waits for verdicts that are due."""
        self._verdicts = verdicts
        self._clock = clock
        self._patience = patience
        self._kept: dict[tuple[int, int], _Kept] = {}
        self._lock = threading.Lock()  # guards the thread
        self._thread: threading.Thread | None = None

    def current(self) -> list[tuple[Labels, CanaryVerdict]]:
        """Returns the verdicts by the candidates' labels; one that could not be computed yet is left out."""
        pairs = {(pair.candidate.id, pair.baseline.id): pair for pair in self._verdicts.all_pairs()}
        if (started := self._refreshing(pairs)) is not None:
            started.join(self._patience)
        kept = self._kept
        return [(kept[ids].labels, kept[ids].verdict) for ids in pairs if ids in kept]

    def _refreshing(self, pairs: Mapping[tuple[int, int], Pair]) -> threading.Thread | None:
        """Starts to compute what is due, unless that is under way."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return None
            due = [ids for ids in pairs if self._clock() - self._computed_at(ids) >= KEPT_SECONDS]
            if not due:
                return None
            # A daemon, because a store that hangs must not keep the process.
            self._thread = threading.Thread(target=self._refresh, args=(pairs, due), name="verdicts", daemon=True)
            self._thread.start()
            return self._thread

    def _refresh(self, pairs: Mapping[tuple[int, int], Pair], due: Iterable[tuple[int, int]]) -> None:
        counts = candidates_of(pairs.values())
        kept = {ids: one for ids, one in self._kept.items() if ids in pairs}
        for ids in sorted(due, key=self._computed_at):
            pair = pairs[ids]
            try:
                verdict = self._verdicts.verdict(pair, counts[pair.baseline.id])
            except StoreUnavailable:  # what is kept is shown until the store is back
                return
            kept = {**kept, ids: _Kept(self._clock(), pair.candidate.labels, verdict)}
            self._kept = kept  # read by scrapes meanwhile

    def _computed_at(self, ids: tuple[int, int]) -> float:
        kept = self._kept.get(ids)
        return -math.inf if kept is None else kept.at


def candidates_of(pairs: Iterable[Pair]) -> Mapping[int, int]:
    """Counts the candidates of each baseline, by its id."""
    return Counter(pair.baseline.id for pair in pairs)
