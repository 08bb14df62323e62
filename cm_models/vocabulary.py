"""Two vocabularies: one side of the pairs names classes by their index, the other by their name.

None of such pairs can be right, which says nothing of the model. Disjoint names, on both sides, do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cm_models.confusion import Matrix
from metrics_server.metrics import OTHER_CLASSES, ROUNDING, VOCABULARIES_DIFFER, Families, GaugeSpec, Sample

FAMILIES: Families = {
    VOCABULARIES_DIFFER: GaugeSpec(
        "1 while one side of the pairs, predictions or truths, is all indexes of classes and the other all names, so"
        " that none can be right; absent otherwise.",
        ("indexes",),
    )
}

_INDEX = re.compile(r"-?(?:0|[1-9][0-9]*)")


def readings(matrix: Matrix) -> Iterator[Sample]:
    """Yields which side of the pairs is all indexes, while the other is all names; nothing otherwise."""
    if matrix.correct > ROUNDING * matrix.pairs:
        return
    truths, predictions = (_are_indexes(_occurring(matrix, counts)) for counts in (matrix.support, matrix.predicted))
    if truths is not None and predictions is not None and truths != predictions:
        side = "truths" if truths else "predictions"
        yield Sample(VOCABULARIES_DIFFER, {"indexes": side}, 1.0, None, matrix.pairs)


def _occurring(matrix: Matrix, counts: Iterable[float]) -> Iterator[str]:
    return (label for label, count in zip(matrix.labels, counts, strict=True) if count > 0)


def _are_indexes(labels: Iterable[str]) -> bool | None:
    """Tells whether these are all indexes, or all names; None if they are both, or not known."""
    kinds = {None if label == OTHER_CLASSES else bool(_INDEX.fullmatch(label)) for label in labels}
    return kinds.pop() if len(kinds) == 1 else None
