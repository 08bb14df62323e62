"""Rows: the raw values of a payload, one for each prediction, checked here once.

A row is a number, a boolean, a string, a list of two or more numbers, or None. Numbers are finite and of magnitude up to 1e12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from metrics_server.errors import Reason, Rejected
from metrics_server.sums import LARGEST
from metrics_server.task import LONGEST_LABEL, Value

MAX_ROW_BYTES = 64 * 2**10
MAX_COLUMNS = MAX_ROW_BYTES // 9  # a float takes 9 bytes in a stored row

MAX_DIMENSIONS = 32  # as numpy had it
MAX_ROWS = 20_000  # of one event, which is applied in one piece: about half a second

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def checked(rows: Sequence[Value], what: str) -> list[Value]:
    """Rows that may be used as truth or response: what no label or number can be is refused.

    Raises:
        Rejected: a text longer than a label, or one with control characters.
    """
    for row in rows:
        if isinstance(row, str) and not is_label(row):
            raise Rejected(
                Reason.LABEL_TOO_LONG,
                f"{what}: a label has at most {LONGEST_LABEL} characters and no control characters; {len(row)} were sent",
            )
    return list(rows)


def opaque(rows: Sequence[Value]) -> list[Value]:
    """Rows of a logged prediction: text that is no label (an answer of a language model, say) becomes None, not an error."""
    return [None if isinstance(row, str) and not is_label(row) else row for row in rows]


def is_label(text: str) -> bool:
    """Whether a text may name a class: at most 256 characters, none of them a control character."""
    return len(text) <= LONGEST_LABEL and (text.isprintable() or not _CONTROL.search(text))


def number(value: Any, what: str) -> float | int:
    """A finite number of magnitude up to 1e12; protobuf's JSON writes "NaN" and may write any number as a string."""
    if isinstance(value, str):
        value = _parsed(value, what)
    if not isinstance(value, (int, float)):
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: want numbers, got {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Rejected(Reason.NOT_A_NUMBER, f"{what}: NaN or infinity")
    if not -LARGEST <= value <= LARGEST:
        raise Rejected(Reason.OUT_OF_RANGE, f"{what}: a number beyond ±1e12")
    return value


def _parsed(text: str, what: str) -> float:
    try:
        value = float(text.replace("_", "?"))  # Python would take 1_0 for 10
    except ValueError as error:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: want numbers, got text") from error
    if math.isinf(value) and any(map(str.isdigit, text)):
        raise Rejected(Reason.OUT_OF_RANGE, f"{what}: a number beyond ±1e12")
    return value


def rows_of_json(value: Any, what: str) -> list[Value]:
    """Rows of a JSON value: a scalar is one row; each element of a list is a row, a scalar or a flat list."""
    if not isinstance(value, list):
        return [_row(value, what)]
    check_rows(len(value), what)
    return [_row(element, what) for element in value]


def check_rows(count: int, what: str) -> None:
    """Raises `Rejected` when there are more rows than one event may have."""
    if count > MAX_ROWS:
        raise Rejected(Reason.TOO_MANY_ROWS, f"{what}: {count} rows, more than {MAX_ROWS}; send them in several events")


def _row(value: Any, what: str) -> Value:
    kind = type(value)
    if kind is int or kind is float:
        return number(value, what)
    if kind is list:
        return _columns(value, what)
    if kind is str or kind is bool or value is None:
        return value  # type: ignore[no-any-return]
    raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: a row is a number, a label or a list of numbers, got {_kind(value)}")


def _columns(values: list[Any], what: str) -> Value:
    """A row of columns; one column is a scalar."""
    if len(values) == 1 and not isinstance(values[0], list):
        return _row(values[0], what)
    if not values:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: a row is empty")
    if len(values) > MAX_COLUMNS:
        raise Rejected(Reason.ROW_TOO_LARGE, f"{what}: a row has {len(values)} columns, more than {MAX_COLUMNS}")
    for value in values:
        if type(value) is not float or not -LARGEST <= value <= LARGEST:
            return [float(_numeric(column, what)) for column in values]
    return values


def _numeric(value: Any, what: str) -> float | int:
    if isinstance(value, (str, list, dict)) or value is None:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: columns are numbers, got {_kind(value)}")
    return number(value, what)


def rows_of_tensor(shape: Sequence[int], values: Sequence[Any], what: str) -> list[Value]:
    """Rows of a row-major tensor: the first dimension counts rows, the others are flattened into columns."""
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= size <= len(values) for size in shape) or math.prod(shape) != len(values):
        raise Rejected(
            Reason.SHAPE_MISMATCH, f"{what}: the shape does not hold {len(values)} values in at most {MAX_DIMENSIONS} dimensions"
        )
    if any(isinstance(value, str) for value in values):
        values = [number(value, what) for value in values]
    count = shape[0] if shape else 1
    if not values:
        return []
    check_rows(count, what)
    width = len(values) // count
    if width == 1:
        return [_row(value, what) if isinstance(value, (bool, bytes)) else number(value, what) for value in values]
    return [_columns(list(values[start : start + width]), what) for start in range(0, len(values), width)]


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
