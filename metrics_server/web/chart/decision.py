"""Charts of decisions: the confusion matrix, and what scores are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from metrics_server.api.schema import Confusion, Table
from metrics_server.metrics.model import OTHER_CLASSES
from metrics_server.web import formatting as wording
from metrics_server.web.chart.chart import Chart, Columns, transposed

MOST_WRITTEN = 15  # classes of a matrix whose cells have room for their counts
SCORE_BINS = 20
_CURVES = ("precision", "recall", "cost")


def confusion_matrix(confusion: Confusion, names: Sequence[str] = ()) -> Chart | None:
    """Counts by truth and prediction, coloured by their share of the truth's row. Names are by class index."""
    if not any(map(any, confusion.counts)):
        return None
    classes = [wording.class_title(label, names) for label in confusion.classes]
    cells = []
    for place, (truth, row) in enumerate(zip(classes, confusion.counts, strict=True)):
        total = sum(row)
        for column, (prediction, count) in enumerate(zip(classes, row, strict=True)):
            share = (
                None if not total or _is_mixed(confusion.classes[place], confusion.classes[column]) else count / total
            )
            text = f"{wording.count(count)} of {wording.count(total)} ({wording.percent(share)})"
            written = _compact(count) if count and len(classes) <= MOST_WRITTEN else ""
            cells.append(
                (column, place, count, share, written, truth, prediction, f"is {truth}, predicted {prediction}", text)
            )
    columns = transposed(("x", "y", "count", "share", "text", "truth", "prediction", "what", "said"), cells)
    headings = {"truth": "truth", "prediction": "prediction", "count": "pairs", "share": "share of the truth"}
    summary = _matrix_said(confusion.classes, classes, confusion.counts)
    return Chart("confusion_matrix", "Confusion matrix", summary, columns, headings, {"classes": classes})


def _is_mixed(truth: str, prediction: str) -> bool:
    """Whether right and wrong are mixed in a cell: that of all classes without a place of their own."""
    return truth == prediction == OTHER_CLASSES


def _matrix_said(labels: Sequence[str], classes: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    total = sum(map(sum, counts))
    right = sum(row[place] for place, row in enumerate(counts) if not _is_mixed(labels[place], labels[place]))
    told = f"{wording.percent(right / total)} of {wording.count(total)} labelled predictions are on the diagonal."
    wrong = [
        (count, row, column)
        for row, of in enumerate(counts)
        for column, count in enumerate(of)
        if row != column and count
    ]
    if not wrong:
        return told
    count, row, column = max(wrong, key=lambda cell: cell[0])
    most = f"Most often mistaken: {classes[row]} for {classes[column]}, {wording.count(count)} of {wording.count(sum(counts[row]))}."
    return f"{told} {most}"


def _compact(count: float) -> str:
    """A count in at most four letters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.9995:
            return f"{count / size:.{1 if count < 9.95 * size else 0}f}{letter}"
    return f"{count:.0f}" if float(count).is_integer() or count >= 99.5 else f"{count:.1f}"


def reliability(rows: Table) -> Chart | None:
    """How often predictions are right by the probability they were given; the larger a dot, the more pairs it stands
    for.
    """
    points = [(float(row["mean_score"]), float(row["positive_ratio"]), float(row["pairs"])) for row in rows]
    if not points:
        return None
    most = max(pairs for _, _, pairs in points)
    cells = []
    for score, right, pairs in points:
        text = f"{wording.percent(right)} of {wording.count(pairs)} are right, at a mean probability of {wording.percent(score)}"
        cells.append((score, right, pairs, 5 + 10 * (pairs / most) ** 0.5, text))
    columns = transposed(("mean_score", "positive_ratio", "pairs", "size", "said"), cells)
    headings = {"mean_score": "mean probability", "positive_ratio": "share that is right", "pairs": "pairs"}
    total = sum(pairs for _, _, pairs in points)
    error = sum(pairs * abs(score - right) for score, right, pairs in points) / total
    furthest = max(points, key=lambda point: abs(point[0] - point[1]))
    summary = (
        f"Probabilities are off by {wording.percent(error)} in the mean of {wording.count(total)} pairs; most at a mean probability of"
        f" {wording.percent(furthest[0])}, where {wording.percent(furthest[1])} of {wording.count(furthest[2])} are right."
    )
    return Chart("reliability", "Reliability of the probabilities", summary, columns, headings, {})


def score_histogram(rows: Table, class_: str) -> Chart | None:
    """Scores of a class, of pairs that are of this class and of the others, each as shares of their own number.

    A bin is [i/20, (i+1)/20), the last one with 1. A row of `thresholds` counts what reaches its threshold, so what it
    has more than the next row lies between the two; since scores are cut at every twentieth, and rows without scores
    left out, that is within one bin. All
    bins are equally wide: heights are as areas.
    """
    positive, negative = _binned_scores(rows, class_)
    positives, negatives = sum(positive), sum(negative)
    if not positives + negatives:
        return None
    cells = []
    for place, (tp, fp) in enumerate(zip(positive, negative, strict=True)):
        lower, upper = place / SCORE_BINS, (place + 1) / SCORE_BINS
        shares = tp / positives if positives else 0.0, fp / negatives if negatives else 0.0
        texts = (
            f"{name}: {wording.count(n)} ({wording.percent(share)})"
            for name, n, share in zip(_sides(class_), (tp, fp), shares, strict=True)
        )
        cells.append((lower, upper, tp, fp, *shares, f"score {lower:.2f} to {upper:.2f}", *texts))
    names = (
        "lower",
        "upper",
        "positives",
        "negatives",
        "positive_share",
        "negative_share",
        "what",
        "of_positives",
        "of_negatives",
    )
    headings = {"lower": "score from", "upper": "to", "positives": _sides(class_)[0], "negatives": _sides(class_)[1]}
    middle = SCORE_BINS // 2
    parts = [
        f"{wording.percent(sum(side[middle:]) / total)} of the {wording.count(total)} pairs {what}"
        for side, total, what in zip(
            (positive, negative), (positives, negatives), ("of the class", "of other classes"), strict=True
        )
        if total
    ]
    summary = f"{' and '.join(parts)} have a score of 0.5 or more."
    return Chart(
        "score_histogram",
        f"Scores of class {class_}",
        summary,
        transposed(names, cells),
        headings,
        {"sides": _sides(class_)},
    )


def _binned_scores(rows: Table, class_: str) -> tuple[list[float], list[float]]:
    """Counts the pairs of the class, and those of the others, by the bin of their score."""
    positive, negative = [0.0] * SCORE_BINS, [0.0] * SCORE_BINS
    for threshold, tp, fp in _within(rows, class_):
        place = min(int(threshold * SCORE_BINS + 1e-9), SCORE_BINS - 1)
        positive[place] += tp
        negative[place] += fp
    return positive, negative


def _sides(class_: str) -> list[str]:
    return [f"is {class_}", f"is not {class_}"]


def _of_class(rows: Table, class_: str) -> Table:
    """The rows of a class by ascending threshold."""
    return sorted((row for row in rows if row.get("class") == class_), key=lambda row: float(row["threshold"]))


def _within(rows: Table, class_: str) -> Iterator[tuple[float, float, float]]:
    """(threshold, positives, negatives) from each threshold to the next; sums of weights may be off by a rounding
    error.
    """
    ordered = _of_class(rows, class_)
    counts = [(float(row["tp"]), float(row["fp"])) for row in ordered]
    for row, (tp, fp), (next_tp, next_fp) in zip(ordered, counts, [*counts[1:], (0.0, 0.0)], strict=False):
        yield float(row["threshold"]), max(0.0, tp - next_tp), max(0.0, fp - next_fp)


def threshold_curve(rows: Table, class_: str, chosen: float | None) -> Chart | None:
    """Precision, recall and, where rows have it, the mean cost of a pair by threshold; a mark at the row nearest to the
    one chosen.
    """
    ordered = _of_class(rows, class_)
    if not ordered:
        return None
    thresholds = [float(row["threshold"]) for row in ordered]
    curves = {
        name: [_number(row.get(name)) for row in ordered] for name in _CURVES if any(name in row for row in ordered)
    }
    columns: Columns = {
        "threshold": thresholds,
        **curves,
        "what": [f"threshold {wording.number(threshold)}" for threshold in thresholds],
    }
    columns |= {
        f"of_{name}": [f"{name} {wording.number(value)}" for value in values] for name, values in curves.items()
    }
    nearest = None if chosen is None else min(thresholds, key=lambda threshold: abs(threshold - chosen))
    columns["chosen"] = [threshold if threshold == nearest else None for threshold in thresholds]

    def at(place: int) -> str:
        return ", ".join(columns[name][place] for name in ("what", *(f"of_{name}" for name in curves)))

    summary = f"At {at(thresholds.index(thresholds[0] if nearest is None else nearest))}."
    if "cost" in curves:
        best = min(range(len(ordered)), key=lambda place: math.inf if (cost := curves["cost"][place]) is None else cost)
        summary += f" The cost of a pair is least at {at(best)}."
    headings = {name: name for name in ("threshold", *curves)}
    return Chart(
        "threshold_curve", f"Thresholds of class {class_}", summary, columns, headings, {"curves": list(curves)}
    )


def _number(cell: str | float | None) -> float | None:
    return None if cell is None else float(cell)
