"""Probabilities: what classification models read from scores beside the decision.

Sums, of pairs whose prediction is a probability or a row of them:
    log_loss, log_loss / square, log_loss / cube: sum of -ln p of the true class, p at least 2.2e-16, of its square and
    of its cube.
    brier, brier / square: sum of the Brier score of a pair, and of its square.
    score / class / ...: see `cm_models.score_histogram`; of rows with up to 30 columns.
    confidence / + / d: pairs that are right whose largest probability is in the d-th tenth of [0, 1]; confidence / - /
    d those that are
        wrong; confidence / sum / d: sum of these probabilities. Of a score of one class the score, and whether it is
        that class.
Sums of rows of any scores:
    rank / k / r: rows of k columns in which r of them stand before the true class, for r up to 4; rank / k / rest: the
    others.

The Brier score of a pair is the squared distance of the probabilities from the truth, Σ (p - y)², in [0, 2]; of two
classes it is half of that, (p - y)² of the second, in [0, 1] (Brier 1950; scikit-learn's `scale_by_half="auto"`).

Areas under curves are one class against the rest, macro averages plain means over the classes for which they are
defined. The interval of such a mean assumes that the classes err together, which makes it too wide rather than too
narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from cm_models.mean import estimate_of, mean_of, summed
from cm_models.score_histogram import Histograms, bin_of, names_of
from metrics_server.metrics import (
    ROUNDING,
    SEPARATOR,
    Array,
    AsymptoticEstimate,
    Cell,
    Cut,
    Families,
    GaugeSpec,
    Sample,
    SequentialEstimate,
    Sums,
    component,
    effective_weight,
    mean_estimate,
    ratio_interval,
    skewed_mean_interval,
    unseen_variance,
    wilson_interval,
)

MAX_SCORED_COLUMNS = 30  # columns of a row up to which each has a histogram
RANKS = 5  # places up to which they are told apart
TOP = (2, 3, 5)  # k of the top-k accuracy
SMALLEST = 2.0**-52  # probability whose logarithm is taken at least, as scikit-learn does
SUM_TOLERANCE = 0.02  # how far from 1 a row of rounded probabilities may sum up to
TENTHS = 10

FAMILIES: Families = {
    "log_loss": GaugeSpec("Mean of -ln of the probability given to the true class.", has_interval=True, better=-1),
    "brier_score": GaugeSpec(
        "Mean squared distance of the probabilities from the truth: 0 to 2, of two classes 0 to 1.",
        has_interval=True,
        better=-1,
    ),
    "calibration_error_ratio": GaugeSpec(
        "Mean distance of probability and share of hits, over ten bins of probability.", better=-1
    ),
    "roc_auc_ratio": GaugeSpec(
        "Area under the ROC curve of a class against the rest, from binned scores.", ("class",), better=1
    ),
    "roc_auc_macro_ratio": GaugeSpec(
        "Mean area under the ROC curve of the classes for which it is defined.", has_interval=True, better=1
    ),
    "average_precision_ratio": GaugeSpec(
        "Average precision of a class against the rest, from binned scores.", ("class",), better=1
    ),
    "average_precision_macro_ratio": GaugeSpec(
        "Mean average precision of the classes for which it is defined.", has_interval=True, better=1
    ),
}
ROW_FAMILIES: Families = {
    "top_k_accuracy_ratio": GaugeSpec(
        "Share of rows whose true class is among the k highest scores.", ("k",), has_interval=True, better=1
    ),
    **FAMILIES,
}

_CONFIDENCE = {
    kind: tuple(component("confidence", kind, str(tenth)) for tenth in range(TENTHS)) for kind in ("+", "-", "sum")
}
_RANK = component("rank", "")
_CUBES = component("log_loss", "cube")


def of_scores(y_true: Iterable[float], y_score: Iterable[float], label: str) -> dict[str, float]:
    """Returns the sums of probabilities of one class: -ln p of what came true, (p - y)², and both histograms.

    Args:
        y_true: whether the truth is that class, 1, or not, 0; n of them, n >= 0.
        y_score: the probabilities, n of them in [0, 1].
        label: the class.
    """
    sums: dict[str, float] = {}
    losses, distances = [], []
    histogram = names_of(label, "-"), names_of(label, "+")
    for truth, score in zip(y_true, y_score, strict=True):
        missed, given = (1 - score, score) if truth else (score, 1 - score)
        losses.append(-math.log(max(SMALLEST, given)))
        distances.append(missed * missed)
        _confide(sums, score, right=bool(truth))
        name = histogram[bool(truth)][bin_of(score)]
        sums[name] = sums.get(name, 0.0) + 1.0
    return sums | _scored(losses, distances)


def _confide(sums: dict[str, float], score: float, *, right: bool) -> None:
    tenth = min(int(score * TENTHS), TENTHS - 1)
    name, total = _CONFIDENCE["+" if right else "-"][tenth], _CONFIDENCE["sum"][tenth]
    sums[name] = sums.get(name, 0.0) + 1.0
    sums[total] = sums.get(total, 0.0) + score


def _scored(losses: Sequence[float], distances: Sequence[float]) -> dict[str, float]:
    if not losses:
        return {}
    cubes = sum([loss * loss * loss for loss in losses])
    return {**summed("log_loss", losses), _CUBES: cubes, **summed("brier", distances)}


def of_rows(truths: Iterable[int], rows: Iterable[Sequence[float]], labels: Sequence[str]) -> dict[str, float]:
    """Returns the sums of rows of scores against the column of the true class.

    Args:
        truths: the columns, n of them; a class that no column stands for is beyond the last.
        rows: n rows of equal length k. One that is no row of probabilities only counts for the top-k accuracy.
        labels: the classes of the k columns.
    """
    sums: dict[str, float] = {}
    losses, distances, width = [], [], len(labels)
    histogram = _histogram_names(labels)
    ranks = _ranks(width)
    for truth, row in zip(truths, rows, strict=True):
        name = ranks[min(_rank(row, truth), RANKS)]
        sums[name] = sums.get(name, 0.0) + 1.0
        greatest = max(row)
        if min(row) < 0 or greatest > 1 or abs(sum(row) - 1) > SUM_TOLERANCE:
            continue
        score = row[truth] if truth < width else 0.0
        losses.append(-math.log(max(SMALLEST, score)))
        distance = sum([value * value for value in row]) + 1 - 2 * score
        distances.append(max(0.0, distance) / (2 if width == 2 else 1))
        _confide(sums, greatest, right=row.index(greatest) == truth)
        for column, names in enumerate(histogram):
            name = names[column != truth][bin_of(row[column])]
            sums[name] = sums.get(name, 0.0) + 1.0
    return sums | _scored(losses, distances)


def _histogram_names(labels: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Lists for each column the components of its histogram: of positive pairs, and of negative ones."""
    if len(labels) > MAX_SCORED_COLUMNS:
        return []
    return [(names_of(label, "+"), names_of(label, "-")) for label in labels]


def _rank(row: Sequence[float], truth: int) -> int:
    """Counts the columns before the true one: those with a higher score, and of equal ones, as scikit-learn has it, the
    later. Before one that no column stands for are all.
    """
    if truth >= len(row):
        return len(row)
    score = row[truth]
    return len([value for value in row if value > score]) + row[truth + 1 :].count(score)


@lru_cache(100)
def _ranks(width: int) -> tuple[str, ...]:
    return tuple(component("rank", str(width), place) for place in (*map(str, range(RANKS)), "rest"))


def readings(sums: Sums, exported: Sequence[str]) -> Iterator[Sample]:
    """Yields top-k accuracy, log loss (in nats), Brier score, calibration error and areas; nothing before the first.

    Args:
        sums: of a window.
        exported: the classes with areas of their own.
    """
    share = effective_weight(sums, sums.get("pairs", 0.0))
    ranks = _ranked(sums)
    yield from _top_k(ranks, share)
    reliability = _reliability(sums)
    if (pairs := sum(count for count, _, _ in reliability)) <= 0:
        return
    total = max(0.0, sums.get("log_loss", 0.0))
    squares, cubes = (sums.get(component("log_loss", power), 0.0) for power in ("square", "cube"))
    yield Sample("log_loss", {}, total / pairs, skewed_mean_interval(total, squares, cubes, pairs, share), pairs)
    yield mean_of("brier_score", {}, "brier", sums, pairs, greatest=_greatest_brier(ranks))
    # Σ n_b / n · |mean score - share of hits| over bins of equal width (Naeini, Cooper, Hauskrecht 2015).
    error = sum(count * abs(mean - hits) for count, mean, hits in reliability) / pairs
    yield Sample("calibration_error_ratio", {}, error, None, pairs)
    scores = _histograms(sums)
    yield from _areas("roc_auc", scores, np.minimum(scores.positives, scores.negatives), exported, share)
    yield from _areas("average_precision", scores, scores.positives, exported, share)


def _greatest_brier(ranks: list[tuple[int, list[float]]]) -> float:
    return 2.0 if any(width > 2 for width, _ in ranks) else 1.0


def estimate(name: str, sums: Sums) -> SequentialEstimate | None:
    """The estimate, for looks at any time, of the log loss, the Brier score or the mean area under the ROC curve.

    None of the others: the calibration error is a sum of distances, biased upwards while there are few pairs and not
    like a normal near 0; the average precision of few positives is biased too; of top-k accuracy there are several.
    """
    if name == "roc_auc_macro_ratio":
        return _area_estimate(_histograms(sums), effective_weight(sums, sums.get("pairs", 0.0)))
    pairs = sum(count for count, _, _ in _reliability(sums))
    if name == "brier_score" and pairs > 0:
        return estimate_of("brier", sums, pairs, greatest=_greatest_brier(_ranked(sums)))
    if name == "log_loss" and pairs > 0:
        squares, share = sums.get(component("log_loss", "square"), 0.0), effective_weight(sums, sums.get("pairs", 0.0))
        return mean_estimate(max(0.0, sums.get("log_loss", 0.0)), squares, pairs, share)
    return None


def _area_estimate(scores: Histograms, share: float) -> AsymptoticEstimate | None:
    """The mean area of the classes that have positives and negatives: of as many pairs, and truths, as the class with
    the fewest of the rarer kind.
    """
    positives, negatives = scores.positives * share, scores.negatives * share
    defined = (scores.positives > 0) & (scores.negatives > 0)
    if not defined.any():
        return None
    counts = (positives * negatives)[defined] / (positives + negatives)[defined]
    value, count = float(scores.roc_auc[defined].mean()), float(counts.min())
    spread = float(np.sqrt(scores.roc_auc_variance(share)[defined]).mean())
    rarer = zip(scores.labels, np.minimum(positives, negatives).tolist(), strict=True)
    truths = {label: found for label, found in rarer if found > 0}
    return AsymptoticEstimate(value, spread * spread + unseen_variance(value, count), count, truths)


def _histograms(sums: Sums) -> Histograms:
    return Histograms.of(sums, ROUNDING * sums.get("pairs", 0.0))


def _reliability(sums: Sums) -> list[tuple[float, float, float]]:
    """(pairs, mean probability, share that is right) of each tenth of [0, 1] that has any."""
    least, found = ROUNDING * sums.get("pairs", 0.0), []
    for right, wrong, total in zip(*_CONFIDENCE.values(), strict=True):
        hits, misses = (max(0.0, sums.get(name, 0.0)) for name in (right, wrong))
        if hits + misses > least:
            found.append((hits + misses, sums.get(total, 0.0) / (hits + misses), hits / (hits + misses)))
    return found


def _ranked(sums: Sums) -> list[tuple[int, list[float]]]:
    """(columns, rows by how many columns stand before the true one) of rows of each width."""
    widths = {width for width in map(_width_of, sums) if width is not None}
    return [(width, [max(0.0, sums.get(name, 0.0)) for name in _ranks(width)]) for width in widths]


@lru_cache(65536)
def _width_of(name: str) -> int | None:
    """The columns of the rows that a component counts by rank; None for any other component."""
    return int(name.split(SEPARATOR)[1]) if name.startswith(_RANK) else None


def _top_k(ranks: list[tuple[int, list[float]]], share: float) -> Iterator[Sample]:
    """Of rows with more than k columns."""
    for k in TOP:
        counts = [found for width, found in ranks if k < width]
        if (rows := sum(map(sum, counts))) > 0:
            among = sum(sum(found[:k]) for found in counts)
            yield Sample("top_k_accuracy_ratio", {"k": str(k)}, among / rows, wilson_interval(among, rows, share), rows)


def _areas(name: str, scores: Histograms, supports: Array, exported: Sequence[str], share: float) -> Iterator[Sample]:
    """The areas of the classes for which they are defined, and their mean."""
    columns = getattr(scores, name), getattr(scores, f"{name}_variance")(share), supports
    rows = zip(scores.labels, *(column.tolist() for column in columns), strict=True)
    found = [row for row in rows if row[3] > 0]
    if not found:
        return
    _, values, variances, each = zip(*found, strict=True)
    mean, spread, support = sum(values) / len(found), sum(map(math.sqrt, variances)) / len(found), min(each)
    yield Sample(f"{name}_macro_ratio", {}, mean, ratio_interval(mean, spread * spread, support * share), support)
    for label, value, variance, support in found:
        if label in exported:
            yield Sample(
                f"{name}_ratio", {"class": label}, value, ratio_interval(value, variance, support * share), support
            )


def cuts(sums: Sums, negative: str, positive: str) -> Iterator[Cut]:
    """Yields the thresholds of the positive of two classes; nothing before both have occurred, or with a third one."""
    scores = _histograms(sums)
    if positive not in scores.labels or not {negative, positive}.issuperset(scores.labels):
        return
    row = scores.labels.index(positive)
    if not scores.positives[row] > 0 < scores.negatives[row]:
        return
    for threshold, tp, fp, fn, tn in scores.cuts(row):
        hits = Cell(positive, positive, True, tp), Cell(negative, negative, True, tn)
        errors = Cell(negative, positive, False, fp), Cell(positive, negative, False, fn)
        yield Cut(threshold, (*hits, *errors))


def tables(sums: Sums, exported: Sequence[str]) -> dict[str, list[dict[str, str | float]]]:
    """Returns curves by name: "reliability"; and by exported class "discrimination", areas with the bounds of the error
    that the bins make, and "thresholds".
    """
    scores = _histograms(sums)
    reliability: list[dict[str, str | float]] = [
        {"pairs": pairs, "mean_score": mean, "positive_ratio": positive} for pairs, mean, positive in _reliability(sums)
    ]
    found: dict[str, list[dict[str, str | float]]] = {
        "reliability": reliability,
        "discrimination": [],
        "thresholds": [],
    }
    areas = {
        name: getattr(scores, name).tolist()
        for name in ("roc_auc", "roc_auc_error", "average_precision", "average_precision_error")
    }
    for row, label in enumerate(scores.labels):
        if label in exported:
            known = {
                "average_precision": scores.positives[row] > 0,
                "roc_auc": scores.positives[row] > 0 < scores.negatives[row],
            }
            shown = {area: values[row] for area, values in areas.items() if known[area.removesuffix("_error")]}
            found["discrimination"].append({"class": label, **shown})
            found["thresholds"] += [{"class": label, **at} for at in scores.thresholds(row)]
    return {name: rows for name, rows in found.items() if rows}
