"""Probabilities: what classification models read from scores beside the decision.

Sums:
    probabilities: pairs whose prediction is a probability, or a row of them.
    log_loss, log_loss / square: sum of -ln p of the true class, p at least 2.2e-16, and of its square.
    brier, brier / square: sum of the Brier score of a pair, and of its square.
    score / class / ...: histogram of the probability of a class, its own pairs against the others, for rows of up to 30 columns.
    confidence / ...: histogram of the largest probability of a row, pairs that are right against the others.
    rank / r: rows in which so many columns stand before the true class, for r up to 4; rank / rest of the others.
    columns: sum of the number of columns of such rows.

The Brier score of a pair is the squared distance of the probabilities from the truth, Σ (p - y)², in [0, 2]; of two classes it
is half of that, (p - y)² of the second, in [0, 1] (Brier 1950; scikit-learn's `scale_by_half="auto"`).

Areas under curves are one class against the rest, macro averages plain means over the classes for which they are defined. The
interval of such a mean assumes that the classes err together, which makes it too wide rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cm_models.confusion import ROUNDING
from cm_models.mean import mean_of, summed
from cm_models.score_histogram import CONFIDENCE, SCORE, Histograms, add, bin_of, names_of
from metrics_server.interval import evidence, of_mean, of_ratio, wilson
from metrics_server.model import Array, Sample
from metrics_server.sums import Sums, component

MAX_SCORED_COLUMNS = 30  # columns of a row up to which each has a histogram
RANKS = 5  # places up to which they are told apart
TOP = (2, 3, 5)  # k of the top-k accuracy
SMALLEST = 2.0**-52  # probability whose logarithm is taken at least, as scikit-learn does
SUM_TOLERANCE = 0.02  # how far from 1 a row of rounded probabilities may sum up to

_SCORE = component(SCORE, "")
_RANKS = tuple(component("rank", str(rank)) for rank in range(RANKS))
_LOWER_RANK = component("rank", "rest")


def of_scores(y_true: Iterable[float], y_score: Iterable[float], label: str) -> dict[str, float]:
    """Sums of the probability of one class against whether the truth is that class, 1, or not, 0."""
    sums: dict[str, float] = {}
    name = _SCORE + label
    losses, distances = [], []
    for truth, score in zip(y_true, y_score, strict=True):
        missed, given = (1 - score, score) if truth else (score, 1 - score)
        losses.append(-math.log(max(SMALLEST, given)))
        distances.append(missed * missed)
        add(sums, name, score, positive=bool(truth))
    return sums | _scored(losses, distances)


def _scored(losses: Sequence[float], distances: Sequence[float]) -> dict[str, float]:
    return {"probabilities": float(len(losses)), **summed("log_loss", losses), **summed("brier", distances)} if losses else {}


def of_rows(truths: Iterable[int], rows: Iterable[Sequence[float]], labels: Sequence[str]) -> dict[str, float]:
    """Sums of rows of scores against the column of the true class, one that no column stands for being beyond the last.

    Args:
        truths: the columns, n of them.
        rows: n rows of equal length k. One that is no row of probabilities only counts for the top-k accuracy.
        labels: the classes of the k columns.
    """
    sums: dict[str, float] = {}
    losses, distances, width = [], [], len(labels)
    histogram = [(names_of(_SCORE + label, "+"), names_of(_SCORE + label, "-")) for label in labels] if width <= MAX_SCORED_COLUMNS else ()
    for truth, row in zip(truths, rows, strict=True):
        known = truth < width
        greatest = max(row)
        score = row[truth] if known else -1.0
        # Before the true column stand those with a higher score, and of equal ones, as scikit-learn has it, the later.
        rank = sum(value > score for value in row) + row[truth + 1 :].count(score) if known else width
        name = _RANKS[rank] if rank < RANKS else _LOWER_RANK
        sums[name] = sums.get(name, 0.0) + 1.0
        if min(row) < 0 or greatest > 1 or abs(sum(row) - 1) > SUM_TOLERANCE:
            continue
        losses.append(-math.log(max(SMALLEST, score)))
        distance = sum(value * value for value in row) + 1 - 2 * max(0.0, score)
        distances.append(max(0.0, distance) / (2 if width == 2 else 1))
        add(sums, CONFIDENCE, greatest, positive=row.index(greatest) == truth)
        for column, names in enumerate(histogram):
            name = names[column != truth][bin_of(row[column])]
            sums[name] = sums.get(name, 0.0) + 1.0
    sums |= _scored(losses, distances)
    if sums:
        sums["columns"] = float(width) * sum(sums.get(name, 0.0) for name in (*_RANKS, _LOWER_RANK))
    return sums


def readings(sums: Sums, exported: Sequence[str]) -> Iterator[Sample]:
    """All values; nothing before the first probability."""
    yield from _top_k(sums)
    if (pairs := sums.get("probabilities", 0.0)) <= 0:
        return
    share = evidence(sums, sums.get("pairs", pairs))
    total = max(0.0, sums.get("log_loss", 0.0))
    yield Sample("log_loss", {}, total / pairs, of_mean(total, sums.get(component("log_loss", "square"), 0.0), pairs, share, 0.0), pairs)
    yield mean_of("brier_score", {}, "brier", sums, pairs, greatest=2.0 if sums.get("columns", 0.0) > 2 * pairs else 1.0)
    scores, reliability = _histograms(sums)
    if (error := reliability.calibration_error()) is not None:
        yield Sample("calibration_error_ratio", {}, error, None, pairs)
    yield from _areas("roc_auc", scores, np.minimum(scores.positives, scores.negatives), exported, share)
    yield from _areas("average_precision", scores, scores.positives, exported, share)


def _histograms(sums: Sums) -> tuple[Histograms, Histograms]:
    """Those of the classes; and the one that calibration is read from: of the largest probability of rows, else of the one class."""
    found = Histograms.of(sums, ROUNDING * sums.get("probabilities", 0.0))
    is_class = np.array([name != CONFIDENCE for name in found.names], dtype=bool)
    scores = found[np.flatnonzero(is_class)]
    return scores, scores if is_class.all() else found[np.flatnonzero(~is_class)]


def _top_k(sums: Sums) -> Iterator[Sample]:
    counts = [max(0.0, sums.get(name, 0.0)) for name in (*_RANKS, _LOWER_RANK)]
    if (rows := sum(counts)) <= 0:
        return
    share, columns = evidence(sums, sums.get("pairs", rows)), sums.get("columns", 0.0) / rows
    for k in TOP:
        if k < columns:
            among = sum(counts[:k])
            yield Sample("top_k_accuracy_ratio", {"k": str(k)}, among / rows, wilson(among * share, rows * share), rows)


def _areas(name: str, scores: Histograms, supports: Array, exported: Sequence[str], share: float) -> Iterator[Sample]:
    """The areas of the classes for which they are defined, and their mean."""
    areas = zip(
        scores.names, getattr(scores, name).tolist(), getattr(scores, f"{name}_variance")(share).tolist(), supports.tolist(), strict=True
    )
    found = [(names[len(_SCORE) :], value, variance, support) for names, value, variance, support in areas if support > 0]
    if not found:
        return
    _, values, variances, each = zip(*found, strict=True)
    mean, spread, support = sum(values) / len(found), sum(map(math.sqrt, variances)) / len(found), min(each)
    yield Sample(f"{name}_macro_ratio", {}, mean, of_ratio(mean, spread * spread, support * share), support)
    for label, value, variance, support in found:
        if label in exported:
            yield Sample(f"{name}_ratio", {"class": label}, value, of_ratio(value, variance, support * share), support)


def tables(sums: Sums, exported: Sequence[str]) -> dict[str, list[dict[str, str | float]]]:
    """Curves by name: "reliability"; and by class "discrimination", areas with their error bounds, and "thresholds"."""
    scores, reliability = _histograms(sums)
    found: dict[str, list[dict[str, str | float]]] = {"reliability": [], "discrimination": [], "thresholds": []}
    if reliability.names:
        found["reliability"] += [
            {"pairs": pairs, "mean_score": mean, "positive_ratio": positive} for pairs, mean, positive in reliability.reliability()
        ]
    areas = {name: getattr(scores, name).tolist() for name in ("roc_auc", "roc_auc_error", "average_precision", "average_precision_error")}
    for row, name in enumerate(scores.names):
        if (label := name[len(_SCORE) :]) in exported:
            known = {"average_precision": scores.positives[row] > 0, "roc_auc": scores.positives[row] > 0 < scores.negatives[row]}
            shown = {area: values[row] for area, values in areas.items() if known[area.removesuffix("_error")]}
            found["discrimination"].append({"class": label, **shown})
            found["thresholds"] += [{"class": label, **at} for at in scores.thresholds(row)]
    return {name: rows for name, rows in found.items() if rows}
