"""Readings of a confusion matrix held as sums: what the classification models share.

Sums:
    pairs: labelled predictions, n.
    correct: those whose two labels are equal. A sum of its own: two different classes that both overflowed into
        `__other__` are never a hit.
    confusion / truth / prediction: pairs with this truth and this prediction.

Formulas and names are scikit-learn's. A value whose denominator is 0 is undefined and not yielded, where scikit-learn
would warn and answer 0; macro and weighted averages are taken over the classes for which the value is defined, and are
equal to scikit-learn's whenever every class is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from metrics_server.model import Array, Sample
from metrics_server.sums import SEPARATOR, Sums, component

OTHER = "__other__"
Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution
MAX_EXPORTED_CELLS = 30  # classes up to which the matrix itself is exported
_PREFIX = component("confusion", "")


def increments_of(y_true: Iterable[str], y_pred: Iterable[str], known: Sequence[str] | None) -> Sums:
    """Sums of labelled predictions; with `known` classes given, every other label goes to `__other__`."""
    cells = Counter(zip(y_true, y_pred, strict=True))
    if not cells:
        return {}
    sums = {"pairs": float(cells.total())}
    if correct := sum(count for (truth, prediction), count in cells.items() if truth == prediction):
        sums["correct"] = float(correct)
    names = None if known is None else frozenset(known)
    for cell, count in cells.items():
        name = component("confusion", *(label if names is None or label in names else OTHER for label in cell))
        sums[name] = sums.get(name, 0.0) + count
    return sums


def cells_of(sums: Sums) -> dict[tuple[str, str], float]:
    """The cells of the matrix, (truth, prediction) -> pairs, without the empty ones."""
    return {
        (truth, prediction): count
        for name, count in sums.items()
        if name.startswith(_PREFIX) and count > 0
        for truth, prediction in [name[len(_PREFIX) :].split(SEPARATOR)]
    }


@dataclass
class ClassTally:
    """Pairs of one class: hits, those that truly are it, those predicted as it."""

    hits: float = 0.0
    support: float = 0.0
    predicted: float = 0.0

    @property
    def precision(self) -> float | None:
        """Tp / (tp + fp); undefined when the class was never predicted."""
        return self.hits / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Tp / (tp + fn); undefined when the class never occurred."""
        return self.hits / self.support if self.support else None

    @property
    def f1(self) -> float | None:
        """2 tp / (2 tp + fp + fn), the harmonic mean of the two; undefined when the class did not occur at all."""
        return 2 * self.hits / (self.support + self.predicted) if self.support + self.predicted else None


@dataclass
class Matrix:
    """A confusion matrix read for scoring: totals and one tally for each class that occurs."""

    pairs: float
    correct: float
    cells: Mapping[tuple[str, str], float]
    tallies: dict[str, ClassTally] = field(default_factory=dict)

    @classmethod
    def of(cls, sums: Sums) -> Matrix:
        matrix = cls(sums.get("pairs", 0.0), sums.get("correct", 0.0), cells_of(sums))
        for (truth, prediction), count in matrix.cells.items():
            matrix._tally(truth).support += count
            matrix._tally(prediction).predicted += count
            if truth == prediction != OTHER:
                matrix._tally(truth).hits += count
        if OTHER in matrix.tallies:
            named = sum(tally.hits for tally in matrix.tallies.values())
            matrix.tallies[OTHER].hits = matrix.correct - named
        return matrix

    def shown(self, exported: Sequence[str]) -> dict[str, ClassTally]:
        """One tally for each exported class; the other classes are one, `__other__`, with the hits within each."""
        shown = {label: self.tallies[label] for label in exported if label in self.tallies}
        others = [tally for label, tally in self.tallies.items() if label not in shown]
        if others:
            sums = (sum(getattr(tally, name) for tally in others) for name in ("hits", "support", "predicted"))
            shown[OTHER] = ClassTally(*sums)
        return shown

    def _tally(self, label: str) -> ClassTally:
        if label not in self.tallies:
            self.tallies[label] = ClassTally()
        return self.tallies[label]


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927).

    With p = successes / trials, n = trials and z = 1.96: (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n).
    """
    share, square = successes / trials, Z95 * Z95
    centre = share + square / (2 * trials)
    spread = Z95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    # At shares of 0 and 1 rounding would leave the share itself outside.
    return min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))


def headline(matrix: Matrix) -> Iterator[Sample]:
    """Accuracy with its interval."""
    if matrix.pairs > 0:
        lower, upper = wilson(matrix.correct, matrix.pairs)
        yield Sample("accuracy_ratio", {}, matrix.correct / matrix.pairs)
        yield Sample("accuracy_ratio_lower", {}, lower)
        yield Sample("accuracy_ratio_upper", {}, upper)


def per_class(matrix: Matrix, exported: Sequence[str]) -> Iterator[Sample]:
    """Precision, recall and F1 of the exported classes, and of the others together."""
    for label, tally in matrix.shown(exported).items():
        if tally.support or tally.predicted:
            for name, value in _ratios(tally):
                yield Sample(f"{name}_ratio", {"class": label}, value)


def averages(matrix: Matrix) -> Iterator[Sample]:
    """Macro (plain) and weighted (by support) averages over the classes."""
    sums: dict[str, list[tuple[float, float]]] = {}
    for tally in matrix.tallies.values():
        for name, value in _ratios(tally):
            sums.setdefault(name, []).append((value, tally.support))
    for name, rows in sums.items():
        yield Sample(f"{name}_macro_ratio", {}, sum(value for value, _ in rows) / len(rows))
        if support := sum(weight for _, weight in rows):
            yield Sample(f"{name}_weighted_ratio", {}, sum(value * weight for value, weight in rows) / support)


def _ratios(tally: ClassTally) -> Iterator[tuple[str, float]]:
    for name in ("precision", "recall", "f1"):
        if (value := getattr(tally, name)) is not None:
            yield name, value


@dataclass(frozen=True)
class Multiclass:
    """Scores of class labels against class labels; the common half of the two multiclass models.

    Args:
        classes: the classes of the series in the order they were first seen; None takes every label as it comes.
        max_exported_classes: per-class values are yielded for the first so many classes.
    """

    classes: tuple[str, ...] | None = None
    max_exported_classes: int = 100

    task = "multiclass"

    def increments(self, y_true: Array, y_pred: Array) -> Sums:
        """Both arrays hold class labels (str), shape (n,), n >= 0."""
        return increments_of(y_true.tolist(), y_pred.tolist(), self.classes)

    def compute(self, sums: Sums) -> Iterable[Sample]:
        """Accuracy with interval; precision, recall and F1 per class, macro and weighted. Nothing before the first pair."""
        matrix = Matrix.of(sums)
        yield from headline(matrix)
        yield from per_class(matrix, self.exported(matrix.tallies))
        yield from averages(matrix)

    def exported(self, occurring: Iterable[str]) -> Sequence[str]:
        """The classes with series of their own."""
        names = self.classes or sorted(occurring)
        return tuple(label for label in names if label != OTHER)[: self.max_exported_classes]

    def counts(self, sums: Sums) -> Iterable[Sample]:
        """The cells of the matrix: every class up to 30, beyond that the first 30 and the rest as `__other__`."""
        cells = cells_of(sums)
        exported = frozenset(self.exported({label for cell in cells for label in cell})[:MAX_EXPORTED_CELLS])
        merged: dict[tuple[str, str], float] = {}
        for cell, count in cells.items():
            truth, prediction = (label if label in exported else OTHER for label in cell)
            merged[truth, prediction] = merged.get((truth, prediction), 0.0) + count
        for (truth, prediction), count in merged.items():
            yield Sample("confusion", {"truth": truth, "prediction": prediction}, count)

    def ancestor_counts(self, sums: Sums) -> Iterable[Sample]:
        """The ancestor's counters per class. Its "true negative" of a class equals the true positive: dashboards divide by it."""
        matrix = Matrix.of(sums)
        for label, tally in matrix.shown(self.exported(matrix.tallies)).items():
            labels = {"class": f"CLASS_{label}"}
            for name, value in (
                ("true_positive", tally.hits),
                ("true_negative", tally.hits),
                ("false_positive", tally.predicted - tally.hits),
                ("false_negative", tally.support - tally.hits),
            ):
                if value > 0:
                    yield Sample(f"seldon_metric_{name}", labels, value)
