"""Charts of decisions: the confusion matrix, and the quality of scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from metrics_server.api.schema import Confusion, Table
from metrics_server.metrics.model import OTHER_CLASSES
from metrics_server.web import formatting
from metrics_server.web.chart.chart import Chart, Columns, columns_of

MOST_WRITTEN = 15  # classes, up to which the cells of a matrix have room for their counts
SCORE_BINS = 20
_CURVES = ("precision", "recall", "cost")


class _Cell(NamedTuple):
    """A cell of a confusion matrix, by the places of its truth and its prediction in the list of classes."""

    truth: int
    prediction: int
    pairs: float


def confusion_matrix(confusion: Confusion, names: Sequence[str] = ()) -> Chart | None:
    """Draws counts by truth and prediction, coloured by their share of the truth's row. Names are by class index."""
    if not any(map(any, confusion.counts)):
        return None
    titles = [formatting.class_title(label, names) for label in confusion.classes]
    cells = [
        _Cell(truth, prediction, count)
        for truth, row in enumerate(confusion.counts)
        for prediction, count in enumerate(row)
    ]
    columns = columns_of([_matrix_row(cell, confusion, titles) for cell in cells])
    headings = {"truth": "truth", "prediction": "prediction", "count": "pairs", "share": "share of the truth"}
    summary = _matrix_summary(cells, confusion, titles)
    return Chart("confusion_matrix", "Confusion matrix", summary, columns, headings, {"classes": titles})


def _matrix_row(cell: _Cell, confusion: Confusion, titles: Sequence[str]) -> dict[str, Any]:
    total = sum(confusion.counts[cell.truth])
    share = None if not total or _is_mixed(cell, confusion) else cell.pairs / total
    truth, prediction = titles[cell.truth], titles[cell.prediction]
    return {
        "x": cell.prediction,
        "y": cell.truth,
        "count": cell.pairs,
        "share": share,
        "text": _compact(cell.pairs) if cell.pairs and len(titles) <= MOST_WRITTEN else "",
        "truth": truth,
        "prediction": prediction,
        "what": f"is {truth}, predicted {prediction}",
        "tooltip": f"{formatting.count(cell.pairs)} of {formatting.count(total)} ({formatting.percent(share)})",
    }


def _is_mixed(cell: _Cell, confusion: Confusion) -> bool:
    """Returns whether right and wrong predictions share a cell: that of all classes beyond the limit."""
    return confusion.classes[cell.truth] == confusion.classes[cell.prediction] == OTHER_CLASSES


def _matrix_summary(cells: Sequence[_Cell], confusion: Confusion, titles: Sequence[str]) -> str:
    total = sum(cell.pairs for cell in cells)
    right = sum(cell.pairs for cell in cells if cell.truth == cell.prediction and not _is_mixed(cell, confusion))
    summary = (
        f"{formatting.percent(right / total)} of {formatting.count(total)} labelled predictions are on the diagonal."
    )
    wrong = [cell for cell in cells if cell.truth != cell.prediction and cell.pairs]
    if not wrong:
        return summary
    most = max(wrong, key=lambda cell: cell.pairs)
    of_truth = formatting.count(sum(confusion.counts[most.truth]))
    return (
        f"{summary} Most often mistaken: {titles[most.truth]} for {titles[most.prediction]}, "
        f"{formatting.count(most.pairs)} of {of_truth}."
    )


def _compact(count: float) -> str:
    """Writes a count in at most four letters: "1.2k"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.9995:
            return f"{count / size:.{1 if count < 9.95 * size else 0}f}{letter}"
    return f"{count:.0f}" if float(count).is_integer() or count >= 99.5 else f"{count:.1f}"


def reliability(rows: Table) -> Chart | None:
    """Draws how often predictions are right by the probability they were given; a larger dot stands for more pairs."""
    bins = [_Bin(float(row["mean_score"]), float(row["positive_ratio"]), float(row["pairs"])) for row in rows]
    if not bins:
        return None
    most = max(bin_.pairs for bin_ in bins)
    columns = columns_of(
        [
            {
                "mean_score": bin_.score,
                "positive_ratio": bin_.right,
                "pairs": bin_.pairs,
                "size": 5 + 10 * (bin_.pairs / most) ** 0.5,
                "tooltip": f"{formatting.percent(bin_.right)} of {formatting.count(bin_.pairs)} are right, "
                f"at a mean probability of {formatting.percent(bin_.score)}",
            }
            for bin_ in bins
        ]
    )
    headings = {"mean_score": "mean probability", "positive_ratio": "share that is right", "pairs": "pairs"}
    summary = _reliability_summary(bins)
    return Chart("reliability", "Reliability of the probabilities", summary, columns, headings, {})


class _Bin(NamedTuple):
    """The pairs of a bin of probabilities: their mean probability, and the share of those that are right."""

    score: float
    right: float
    pairs: float


def _reliability_summary(bins: Sequence[_Bin]) -> str:
    total = sum(bin_.pairs for bin_ in bins)
    error = sum(bin_.pairs * abs(bin_.score - bin_.right) for bin_ in bins) / total
    furthest = max(bins, key=lambda bin_: abs(bin_.score - bin_.right))
    return (
        f"Probabilities are off by {formatting.percent(error)} in the mean of {formatting.count(total)} pairs; "
        f"most at a mean probability of {formatting.percent(furthest.score)}, "
        f"where {formatting.percent(furthest.right)} of {formatting.count(furthest.pairs)} are right."
    )


def score_histogram(rows: Table, class_: str) -> Chart | None:
    """Draws the scores of a class, of the pairs of this class and of the others, each as shares of their own number.

    A bin is [i/20, (i+1)/20), the last one with 1. A row of `thresholds` counts the pairs that reach its threshold, so
    those that it counts and the next row does not lie between the two; since scores are cut at every twentieth, and
    rows without scores left out, that is within one bin. All bins are equally wide: heights are as areas.
    """
    positive, negative = _binned_scores(rows, class_)
    if not sum(positive) + sum(negative):
        return None
    sides = _sides(class_)
    of_positives, of_negatives = (
        _side_cells(counts, side) for counts, side in zip((positive, negative), sides, strict=True)
    )
    edges = [place / SCORE_BINS for place in range(SCORE_BINS + 1)]
    columns: Columns = {
        "lower": edges[:-1],
        "upper": edges[1:],
        "positives": positive,
        "negatives": negative,
        "positive_share": of_positives.shares,
        "negative_share": of_negatives.shares,
        "what": [f"score {lower:.2f} to {upper:.2f}" for lower, upper in pairwise(edges)],
        "of_positives": of_positives.texts,
        "of_negatives": of_negatives.texts,
    }
    headings = {"lower": "score from", "upper": "to", "positives": sides[0], "negatives": sides[1]}
    summary = _score_summary(positive, negative)
    title = f"Scores of class {class_}"
    return Chart("score_histogram", title, summary, columns, headings, {"sides": sides})


class _SideCells(NamedTuple):
    """The shares of the pairs of one side by bin, and their tooltips."""

    shares: list[float]
    texts: list[str]


def _side_cells(counts: Sequence[float], side: str) -> _SideCells:
    total = sum(counts)
    shares = [count / total if total else 0.0 for count in counts]
    texts = [
        f"{side}: {formatting.count(count)} ({formatting.percent(share)})"
        for count, share in zip(counts, shares, strict=True)
    ]
    return _SideCells(shares, texts)


def _score_summary(positive: Sequence[float], negative: Sequence[float]) -> str:
    high = [
        f"{formatting.percent(sum(counts[SCORE_BINS // 2 :]) / total)} of the {formatting.count(total)} pairs {side}"
        for counts, side in ((positive, "of the class"), (negative, "of other classes"))
        if (total := sum(counts))
    ]
    return f"{' and '.join(high)} have a score of 0.5 or more."


def _binned_scores(rows: Table, class_: str) -> tuple[list[float], list[float]]:
    """Counts the pairs of the class, and those of other classes, by the bin of their score."""
    positive, negative = [0.0] * SCORE_BINS, [0.0] * SCORE_BINS
    for threshold, tp, fp in _within(rows, class_):
        place = min(int(threshold * SCORE_BINS + 1e-9), SCORE_BINS - 1)
        positive[place] += tp
        negative[place] += fp
    return positive, negative


def _sides(class_: str) -> list[str]:
    return [f"is {class_}", f"is not {class_}"]


def _of_class(rows: Table, class_: str) -> Table:
    """Selects the rows of a class, by ascending threshold."""
    return sorted((row for row in rows if row.get("class") == class_), key=lambda row: float(row["threshold"]))


def _within(rows: Table, class_: str) -> Iterator[tuple[float, float, float]]:
    """Yields (threshold, positives, negatives) of the pairs with scores from each threshold to the next.

    Counts that a rounding error of weights makes negative are 0.
    """
    ordered = _of_class(rows, class_)
    counts = [(float(row["tp"]), float(row["fp"])) for row in ordered]
    for row, (tp, fp), (next_tp, next_fp) in zip(ordered, counts, [*counts[1:], (0.0, 0.0)], strict=False):
        yield float(row["threshold"]), max(0.0, tp - next_tp), max(0.0, fp - next_fp)


def threshold_curve(rows: Table, class_: str, chosen: float | None) -> Chart | None:
    """Draws precision, recall and, where rows have it, the mean cost of a pair by threshold.

    The row nearest to the chosen threshold is marked.
    """
    ordered = _of_class(rows, class_)
    if not ordered:
        return None
    thresholds = [float(row["threshold"]) for row in ordered]
    curves = {
        name: [_number(row.get(name)) for row in ordered] for name in _CURVES if any(name in row for row in ordered)
    }
    nearest = None if chosen is None else min(thresholds, key=lambda threshold: abs(threshold - chosen))
    columns: Columns = {
        "threshold": thresholds,
        **curves,
        "what": [f"threshold {formatting.number(threshold)}" for threshold in thresholds],
        **{f"of_{name}": [f"{name} {formatting.number(value)}" for value in curves[name]] for name in curves},
        "chosen": [threshold if threshold == nearest else None for threshold in thresholds],
    }
    marked = 0 if nearest is None else thresholds.index(nearest)
    summary = _curve_summary(columns, list(curves), marked)
    headings = {name: name for name in ("threshold", *curves)}
    title = f"Thresholds of class {class_}"
    return Chart("threshold_curve", title, summary, columns, headings, {"curves": list(curves)})


def _curve_summary(columns: Columns, curves: Sequence[str], marked: int) -> str:
    def at(row: int) -> str:
        return ", ".join(columns[name][row] for name in ("what", *(f"of_{name}" for name in curves)))

    summary = f"At {at(marked)}."
    if "cost" in curves:
        costs = [math.inf if cost is None else cost for cost in columns["cost"]]
        summary += f" The cost of a pair is least at {at(costs.index(min(costs)))}."
    return summary


def _number(cell: str | float | None) -> float | None:
    return None if cell is None else float(cell)
