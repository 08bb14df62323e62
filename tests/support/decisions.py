"""Decisions simulated: two arms that are looked at after every batch, and a model that is looked at every hour.

What is simulated is the sums that a server has; what decides is `metrics_server.metrics.sequential`, for many runs at
once. A look is wrong when its interval leaves out the true difference: with a margin of just that difference, each such
interval is a wrong verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from cm_models.binary_metrics import BinaryMetrics
from cm_models.classification import estimate
from cm_models.confusion import Matrix
from cm_models.human_feedback import HumanFeedback
from cm_models.multiclass_one_hot import MulticlassOneHot
from cm_models.multilabel import MultiLabel
from cm_models.ranking import Ranking
from cm_models.score_histogram import BINS, EDGES, Histograms
from metrics_server.metrics import component
from metrics_server.metrics.confidence import Z95
from metrics_server.metrics.sequential.asymptotic import BURN_IN, radius
from metrics_server.metrics.sequential.detector import SPAN_HOURS, advance, share_evidence, threshold
from metrics_server.metrics.sequential.estimate import FEWEST_TRUTHS, is_ready
from metrics_server.metrics.sequential.share import share_difference

RUNS = 2000
LOOKS = 60
BATCH = 40  # labels of the candidate between two looks
SHARES = (0.25, 0.75)  # of the traffic, candidate and baseline
OBJECTIVE, LABELS_AN_HOUR, HOURS_A_YEAR = 0.9, 20, 8766
FALSE_ALARMS_A_YEAR = 0.1


@dataclass(frozen=True)
class Looks:
    """What the looks of many runs saw.

    Attributes:
        counts: labels of the candidate at each look.
        wrong: whether each look of each run was wrong; shape (looks, runs).
        naive: the same of the 95 % interval of a single look.
    """

    counts: np.ndarray
    wrong: np.ndarray
    naive: np.ndarray

    def ever(self) -> int:
        """How many runs were wrong at any look."""
        return int(self.wrong.any(axis=0).sum())


def clopper_pearson(found: int, runs: int) -> tuple[float, float]:
    """The exact 95 % interval of a share of runs (Clopper and Pearson 1934)."""
    lower = stats.beta.ppf(0.025, found, runs - found + 1) if found else 0.0
    upper = stats.beta.ppf(0.975, found + 1, runs - found) if found < runs else 1.0
    return float(lower), float(upper)


# Arms. Each yields, look by look, what its sums say of all runs: value, variance, count and whether it is ready.

Seen = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _looks(seen: Iterator[tuple[Seen, Seen]], truth: float) -> Looks:
    """The looks at the difference of two arms with these values."""
    wrong, naive = [], []
    for (value, variance, count, ready), (other, others_variance, others, others_ready) in seen:
        off, spread = np.abs(value - other - truth), variance + others_variance
        wrong.append((off > radius(spread, 1 / (1 / count + 1 / others))) & ready & others_ready)
        naive.append((off > Z95 * np.sqrt(spread)) & ready & others_ready)
    return Looks(BATCH * np.arange(1, len(wrong) + 1), np.array(wrong), np.array(naive))


def shares(right: float, others_right: float, seed: int = 1) -> Looks:
    """Accuracies of so many right, looked at as shares; the naive interval is Newcombe's."""
    random = np.random.default_rng(seed)
    trials = _trials()
    (found, other), (count, others) = (
        [
            random.binomial(n, p, size=(LOOKS, RUNS)).cumsum(axis=0)
            for n, p in zip(trials, (right, others_right), strict=True)
        ],
        [n * np.arange(1, LOOKS + 1)[:, None] for n in trials],
    )
    lower, upper = share_difference((found, count), (other, others))
    truth = right - others_right
    below, above = _newcombe(found, count, other, others)
    return Looks(count[:, 0], (truth < lower) | (truth > upper), (truth < below) | (truth > above))


def _trials() -> tuple[int, int]:
    return BATCH, round(BATCH * SHARES[1] / SHARES[0])


def wilson_ends(found: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of many shares, as `metrics_server.metrics.confidence.wilson_interval` has it of one."""
    p, square = found / count, Z95 * Z95
    centre, scale = p + square / 2 / count, 1 + square / count
    spread = Z95 * np.sqrt(p * (1 - p) / count + square / 4 / count / count)
    return (centre - spread) / scale, (centre + spread) / scale


def _newcombe(found: np.ndarray, count: np.ndarray, other: np.ndarray, others: np.ndarray) -> tuple:
    (lower, upper), (others_lower, others_upper) = wilson_ends(found, count), wilson_ends(other, others)
    p, q = found / count, other / others
    return p - q - np.hypot(p - lower, others_upper - q), p - q + np.hypot(upper - p, q - others_lower)


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

MEANS: dict[str, tuple[Draw, float]] = {
    "normal errors": (lambda random, shape: np.abs(random.standard_normal(shape)), math.sqrt(2 / math.pi)),
    "skewed errors, exponential": (lambda random, shape: random.standard_exponential(shape), 1.0),
    "skewed errors, lognormal": (lambda random, shape: random.lognormal(0.0, 1.0, shape), math.exp(0.5)),
    "squared exponential errors": (lambda random, shape: random.standard_exponential(shape) ** 2, 2.0),
}


def means(kind: str, scale: float = 1.0, seed: int = 2) -> Looks:
    """Mean errors, the candidate's `scale` times the baseline's."""
    random = np.random.default_rng(seed)
    draw, mean = MEANS[kind]
    one, other = (partial(_mean_arm, random, draw, n, by) for n, by in zip(_trials(), (scale, 1.0), strict=True))
    return _looks(zip(one(), other(), strict=True), mean * scale - mean)


def _mean_arm(random: np.random.Generator, draw: Draw, batch: int, scale: float) -> Iterator[Seen]:
    total, squares = np.zeros(RUNS), np.zeros(RUNS)
    for look in range(1, LOOKS + 1):
        values = scale * draw(random, (RUNS, batch))
        total, squares, n = total + values.sum(axis=1), squares + (values * values).sum(axis=1), look * batch
        mean = total / n
        count = np.full(RUNS, float(n))
        yield mean, np.maximum(0.0, squares / n - mean * mean) / (n - 1), count, count >= BURN_IN


def areas(candidate: float = 1.5, baseline: float = 1.5, positives: float = 0.2, seed: int = 3) -> Looks:
    """Areas under curves of scores whose log odds are normal, those of positives so much higher; from histograms."""
    random = np.random.default_rng(seed)
    arms, truths = [], []
    for batch, shift in zip(_trials(), (candidate, baseline), strict=True):
        chances = np.stack((positives * _bins(shift), (1 - positives) * _bins(0.0)))
        whole = Histograms(("",), chances[:1], chances[1:])
        truths.append(float(whole.roc_auc[0]))
        arms.append(_area_arm(random, chances, batch))
    return _looks(zip(*arms, strict=True), truths[0] - truths[1])


def _bins(shift: float) -> np.ndarray:
    """The share of scores in each bin."""
    edges = np.array(EDGES)
    with np.errstate(divide="ignore"):
        reached = stats.norm.cdf(np.log(edges / (1 - np.minimum(edges, 1 - 1e-15))) + 1 - shift)
    return np.diff(np.concatenate(([0.0], reached, [1.0])))


def _area_arm(random: np.random.Generator, chances: np.ndarray, batch: int) -> Iterator[Seen]:
    counts = np.zeros((RUNS, 2, BINS))
    for _ in range(LOOKS):
        counts += random.multinomial(batch, chances.ravel(), size=RUNS).reshape(counts.shape)
        found = Histograms(("",) * RUNS, counts[:, 0], counts[:, 1])
        count = found.positives * found.negatives / (found.positives + found.negatives)
        fewest = np.minimum(found.positives, found.negatives)
        yield found.roc_auc, found.roc_auc_variance(1.0), np.maximum(count, 1.0), _ready(count, fewest)


def _ready(count: np.ndarray, fewest: np.ndarray) -> np.ndarray:
    return (count >= BURN_IN) & (fewest >= FEWEST_TRUTHS)


CLASSES = "abc"
CONFUSION = np.array([[0.63, 0.05, 0.02], [0.04, 0.15, 0.01], [0.02, 0.01, 0.07]])  # truth by prediction


def macro_f1(runs: int = RUNS, looks: int = 12, batch: int = 200, seed: int = 4) -> Looks:
    """Macro F1 of three classes of 70, 20 and 10 %, alike in both arms; by the family's own estimates."""
    random = np.random.default_rng(seed)
    arms = [_f1_arm(random, runs, looks, batch * times) for times in (1, 3)]
    found = _looks(zip(*arms, strict=True), 0.0)
    return Looks(batch * np.arange(1, looks + 1), found.wrong, found.naive)


def _f1_arm(random: np.random.Generator, runs: int, looks: int, batch: int) -> Iterator[Seen]:
    counts = np.zeros((runs, CONFUSION.size))
    names = [component("confusion", truth, prediction) for truth in CLASSES for prediction in CLASSES]
    for _ in range(looks):
        counts += random.multinomial(batch, CONFUSION.ravel(), size=runs)
        rows = [_f1_of(dict(zip(names, row, strict=True)), row) for row in counts.tolist()]
        value, variance, count, fewest = np.array(rows).T
        yield value, variance, count, _ready(count, fewest)


def _f1_of(sums: dict[str, float], row: list[float]) -> tuple[float, float, float, float]:
    found = estimate("f1_macro_ratio", Matrix.of({"pairs": sum(row), "correct": sum(row[::4]), **sums}))
    assert found is not None
    return found.value, found.variance, found.count, min(found.truths.values())


# Any family: rows of a population, drawn with replacement, by the family's own sums and estimates.


@dataclass(frozen=True)
class Population:
    """Rows of a model and the name of one of its values, which is the same in both arms.

    Attributes:
        model: a metric model.
        name: of the value.
        y_true: truths, one a row.
        y_pred: predictions, one a row.
    """

    model: Any
    name: str
    y_true: np.ndarray
    y_pred: np.ndarray

    def looks(self, runs: int = RUNS, looks: int = 12, batch: int = 200, seed: int = 8) -> Looks:
        """The looks at two arms of this population."""
        random = np.random.default_rng(seed)
        arms = [self._arm(random, runs, looks, batch * times) for times in (1, 3)]
        found = _looks(zip(*arms, strict=True), 0.0)
        return Looks(batch * np.arange(1, looks + 1), found.wrong, found.naive)

    def alone(self, runs: int = RUNS, looks: int = 12, batch: int = 200, seed: int = 9) -> Looks:
        """The looks at one arm, by its own interval."""
        truth = self.model.estimate(self.name, self.model.increments(self.y_true, self.y_pred)).value
        arm = self._arm(np.random.default_rng(seed), runs, looks, batch)
        known = (np.zeros(runs), np.zeros(runs), np.full(runs, math.inf), np.ones(runs, bool))
        found = _looks(((seen, known) for seen in arm), truth)
        return Looks(batch * np.arange(1, looks + 1), found.wrong, found.naive)

    def _arm(self, random: np.random.Generator, runs: int, looks: int, batch: int) -> Iterator[Seen]:
        names, table = self._sums
        totals = np.zeros((runs, len(names)))
        for _ in range(looks):
            drawn = random.integers(len(table), size=(runs, batch)) + len(table) * np.arange(runs)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=runs * len(table)).reshape(runs, -1)
            totals += counts @ table
            rows = [self._seen(dict(zip(names, row, strict=True))) for row in totals.tolist()]
            value, variance, count, ready = np.array(rows).T
            yield value, variance, np.maximum(count, 1.0), ready > 0

    @property
    def _sums(self) -> tuple[list[str], np.ndarray]:
        """The components that occur, and those of each row."""
        rows = [self.model.increments(self.y_true[at : at + 1], self.y_pred[at : at + 1]) for at in range(self.size)]
        names = sorted({name for row in rows for name in row})
        return names, np.array([[row.get(name, 0.0) for name in names] for row in rows])

    @property
    def size(self) -> int:
        return len(self.y_true)

    def _seen(self, sums: dict[str, float]) -> tuple[float, float, float, float]:
        found = self.model.estimate(self.name, {name: value for name, value in sums.items() if value})
        return (0.0, 0.0, 0.0, 0.0) if found is None else (found.value, found.variance, found.count, is_ready(found))


def _log_odds(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def ranked(name: str, size: int = 500) -> Population:
    """Twelve candidates a row, of which some are relevant, and scores that follow their grades."""
    random = np.random.default_rng(1)
    grades = random.choice([0.0, 1.0, 3.0], p=[0.85, 0.1, 0.05], size=(size, 12))
    return Population(Ranking(k=(5,)), name, grades, grades + random.normal(size=grades.shape))


def labelled(name: str, spread: float = 2.0, size: int = 500) -> Population:
    """Five labels a row, which hold together: some rows have many, some none."""
    random = np.random.default_rng(2)
    truths = (random.random((size, 5)) < random.random((size, 1))).astype(float)
    return Population(MultiLabel(), name, truths, _log_odds(4 * truths - 2 + spread * random.normal(size=truths.shape)))


def rated(size: int = 500) -> Population:
    """Stars, most of them five."""
    stars = np.random.default_rng(3).choice([1.0, 2.0, 3.0, 4.0, 5.0], p=[0.1, 0.05, 0.05, 0.2, 0.6], size=size)
    return Population(HumanFeedback(), "rating_mean", stars, stars)


def scored(name: str, confident: float = 1.0, positives: float = 0.3, size: int = 1000) -> Population:
    """Probabilities of one class, right as they are or so much too confident."""
    random = np.random.default_rng(4)
    odds = random.normal(math.log(positives / (1 - positives)), 2.0, size=size)
    truths = (random.random(size) < _log_odds(odds)).astype(float)
    return Population(BinaryMetrics(), name, truths, _log_odds(confident * odds))


def probable(name: str, size: int = 500) -> Population:
    """Probabilities of three classes of 50, 30 and 20 %."""
    random = np.random.default_rng(5)
    truths = random.choice(3, p=[0.5, 0.3, 0.2], size=size)
    odds = np.exp(1.5 * np.eye(3)[truths] + random.normal(size=(size, 3)))
    return Population(MulticlassOneHot(), name, truths.astype(str), odds / odds.sum(axis=1, keepdims=True))


# Hours.


def hours(length: int, runs: int, seed: int, fall: float = 0.0, fallen_at: int = 0) -> np.ndarray:
    """How many labels are right in each hour: at the objective, and below it by `fall` from an hour on."""
    random = np.random.default_rng(seed)
    chances = np.where(np.arange(length) < fallen_at, OBJECTIVE, OBJECTIVE - fall)
    return random.binomial(LABELS_AN_HOUR, chances[:, None], size=(length, runs))


def share_log_e(right: np.ndarray) -> np.ndarray:
    """The log e of each hour and fall; shape (hours, runs, falls). Of a table: there are few counts and many hours."""
    counts = np.arange(LABELS_AN_HOUR + 1)
    return share_evidence(counts, np.full(counts.size, LABELS_AN_HOUR), OBJECTIVE).astype(np.float32)[right]


def detected(log_e: np.ndarray, false_alarms_a_year: float = FALSE_ALARMS_A_YEAR) -> np.ndarray:
    """At which hours of which runs there is an alarm; shape (hours, runs)."""
    nothing = np.full(log_e.shape[1:], -math.inf)
    log_m, product = nothing, np.zeros(log_e.shape[1:])
    alarms = np.zeros(log_e.shape[:2], dtype=bool)
    for hour, entering in enumerate(log_e):
        product += entering
        if hour > SPAN_HOURS:
            product -= log_e[hour - SPAN_HOURS - 1]
        log_m = advance(log_m, entering, product if hour >= SPAN_HOURS else nothing)
        alarms[hour] = np.exp(np.minimum(log_m, 700)).mean(axis=1) >= threshold(false_alarms_a_year)
    return alarms


def years_with_alarms(runs: int, seed: int, part: int = 250) -> int:
    """How many of so many years at the objective had an alarm; in parts, for the hours of all are half a gigabyte."""
    parts = (hours(HOURS_A_YEAR, part, seed + start) for start in range(0, runs, part))
    return sum(int(detected(share_log_e(right)).any(axis=0).sum()) for right in parts)


def as_stream(right: np.ndarray, seed: int) -> str:
    """The hours of one run label by label, in a random order within each: "1" for a right one."""
    labels = np.arange(LABELS_AN_HOUR)[None] < right[:, None]
    return "".join("01"[int(each)] for each in np.random.default_rng(seed).permuted(labels, axis=1).ravel())


def naively_detected(right: np.ndarray) -> np.ndarray:
    """The same for "the upper end of the 1d interval is below the objective"."""
    total = np.concatenate((np.zeros((1, right.shape[1])), right.cumsum(axis=0)))
    ends = np.arange(1, len(right) + 1)
    starts = np.maximum(ends - 24, 0)
    found, count = total[ends] - total[starts], (LABELS_AN_HOUR * (ends - starts))[:, None]
    return wilson_ends(found, count)[1] < OBJECTIVE


def delays(alarms: np.ndarray, fallen_at: int) -> np.ndarray:
    """Hours from the fall to the first alarm after it, by run; inf where there was none."""
    after = alarms[fallen_at:]
    return np.where(after.any(axis=0), after.argmax(axis=0) + 1.0, math.inf)
