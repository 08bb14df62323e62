"""The value matrix of a deployment, which only the configuration file can hold."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from metrics_server.metrics.sums import LARGEST
from metrics_server.metrics.task import LONGEST_LABEL
from metrics_server.metrics.value import ValueMatrix

Value = Annotated[float, Meta(ge=-LARGEST, le=LARGEST), "a number up to 1e12, and from -1e12"]
ClassLabel = Annotated[str, Meta(min_length=1, max_length=LONGEST_LABEL)] | int  # YAML reads an index as a number
CellValues = Annotated[dict[ClassLabel, dict[ClassLabel, Value]], "numbers by the class that is true, then predicted"]

# Of two classes the truth and the prediction, as indexes.
_OF_TWO = {
    "true_positive": ("1", "1"),
    "false_positive": ("0", "1"),
    "true_negative": ("0", "0"),
    "false_negative": ("1", "0"),
}


class ValueMatrixEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each kind of right and wrong pair gains, or costs: of two classes by four numbers, else by class."""

    true_positive: Value | None = None
    false_positive: Value | None = None
    true_negative: Value | None = None
    false_negative: Value | None = None
    right: Value | None = None
    wrong: Value | None = None
    cells: CellValues | None = None

    @property
    def is_whole(self) -> bool:
        """Tells whether it has all of one form, and nothing of the other."""
        given = {name for name in self.__struct_fields__ if getattr(self, name) is not None}
        return given == _OF_TWO.keys() or {"right", "wrong"} <= given <= {"right", "wrong", "cells"}

    @property
    def matrix(self) -> ValueMatrix:
        """The matrix, by indexes or names of classes; of one that is whole."""
        if self.right is None:
            return ValueMatrix({cell: getattr(self, name) for name, cell in _OF_TWO.items()})
        values = {
            (str(truth), str(prediction)): value
            for truth, row in (self.cells or {}).items()
            for prediction, value in row.items()
        }
        return ValueMatrix(values, self.right, self.wrong)


DeclaredValues = Annotated[ValueMatrixEntry, "numbers by what a pair is, such as true_positive"]
