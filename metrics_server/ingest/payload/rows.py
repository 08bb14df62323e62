"""Rows: the raw values of a payload, one for each prediction, checked here once.

A row is a number, a boolean, a string, a list of two or more numbers, or None. Numbers are finite and of magnitude up
to 1e12. A row that is none of these in a payload that follows its protocol is `Unreadable`, until it is known whether
that matters.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from metrics_server.errors import Reason, Rejected
from metrics_server.metrics.sums import LARGEST
from metrics_server.metrics.task import LONGEST_LABEL, RowValue

MAX_ROW_BYTES = 64 * 2**10
NUMBER_BYTES = 9  # of a float in a stored row
MAX_COLUMNS = MAX_ROW_BYTES // NUMBER_BYTES

MAX_DIMENSIONS = 32  # as numpy had it
MAX_VALUES = 2**21  # of one tensor: what a body of 8 MiB holds of single precision, and half a second to look at
MAX_ROWS = 20_000  # of one event, which is applied in one piece: about half a second

LEAST = -LARGEST

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """A row that no metric can read (an image, an object), and why."""

    why: str


Row: TypeAlias = "RowValue | Unreadable"


def unreadable(error: Rejected) -> Unreadable:
    """The row in place of content of a form that holds none; a wrong shape or number stays an error."""
    if error.reason is not Reason.MALFORMED_PAYLOAD:
        raise error
    return Unreadable(error.detail)


def checked(rows: list[Row], what: str) -> list[RowValue]:
    """Rows that may be used as truth or response: what no label or number can be is refused.

    Raises:
        Rejected: a text longer than a label, or one with control characters; a row that cannot be read.
    """
    for row in rows:
        kind = type(row)
        if kind is str and not is_label(row):  # type: ignore[arg-type]
            raise Rejected(
                Reason.LABEL_TOO_LONG,
                f"{what}: a label has at most {LONGEST_LABEL} characters and no control characters; {len(row)}"  # type: ignore[arg-type]
                f" were sent",
            )
        if kind is Unreadable:
            raise Rejected(Reason.MALFORMED_PAYLOAD, row.why)  # type: ignore[union-attr]
    return rows  # type: ignore[return-value]


def opaque(rows: Sequence[Row]) -> list[RowValue]:
    """Rows of a logged prediction: what is no label or number (an answer of a language model, say) becomes None, not an
    error.
    """
    return [
        None if isinstance(row, Unreadable) or (isinstance(row, str) and not is_label(row)) else row for row in rows
    ]


def is_label(text: str) -> bool:
    """Tells whether a text may name a class: at most 256 characters, none of them a control character."""
    return len(text) <= LONGEST_LABEL and (text.isprintable() or not _CONTROL.search(text))


def number(value: Any, what: str) -> float | int:
    """A finite number of magnitude up to 1e12; protobuf's JSON writes "NaN" and may write any number as a string."""
    kind = type(value)
    if (kind is float or kind is int) and LEAST <= value <= LARGEST:
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):
        value = _parsed(value, what)
    if not isinstance(value, (int, float)):
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: want numbers, got {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Rejected(Reason.NOT_A_NUMBER, f"{what}: NaN or infinity")
    if not LEAST <= value <= LARGEST:
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


def rows_of_json(value: Any, what: str) -> list[Row]:
    """Rows of a JSON value: a scalar is one row; each element of a list is a row, a scalar or a flat list."""
    if not isinstance(value, list):
        return [row_of(value, what)]
    check_rows(len(value), what)
    return [_columns(element, what) if type(element) is list else row_of(element, what) for element in value]


def check_rows(count: int, what: str) -> None:
    """Raises `Rejected` when there are more rows than one event may have."""
    if count > MAX_ROWS:
        raise Rejected(Reason.TOO_MANY_ROWS, f"{what}: {count} rows, more than {MAX_ROWS}; send them in several events")


def row_of(value: Any, what: str) -> RowValue:
    """One row of a JSON value that is a scalar or a flat list."""
    kind = type(value)
    if kind is int or kind is float:
        return value if LEAST <= value <= LARGEST else number(value, what)
    if kind is list:
        return _columns(value, what)
    if kind is str or kind is bool or value is None:
        return value  # type: ignore[no-any-return]
    raise Rejected(
        Reason.MALFORMED_PAYLOAD, f"{what}: a row is a number, a label or a list of numbers, got {_kind(value)}"
    )


def _columns(values: list[Any], what: str) -> RowValue:
    """A row of columns; one column is a scalar."""
    if len(values) == 1 and not isinstance(values[0], list):
        return row_of(values[0], what)
    if not values:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: a row is empty")
    if len(values) > MAX_COLUMNS:
        raise Rejected(Reason.ROW_TOO_LARGE, f"{what}: a row has {len(values)} columns, more than {MAX_COLUMNS}")
    for value in values:
        if type(value) is not float or not LEAST <= value <= LARGEST:
            return [
                float(column if type(column) is int and LEAST <= column <= LARGEST else _numeric(column, what))
                for column in values
            ]
    return values


def _numeric(value: Any, what: str) -> float | int:
    if isinstance(value, (str, list, dict)) or value is None:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: columns are numbers, got {_kind(value)}")
    return number(value, what)


def check_shape(shape: Sequence[int], count: int, what: str) -> int:
    """The number of columns of each row of a tensor with `count` values; to be asked before any value is looked at.

    Raises:
        Rejected: the shape does not hold so many values, or a row or their number is too large.
    """
    sizes = list(shape) if count or not shape else shape[:1]  # an empty batch may have columns
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= size <= count for size in sizes) or math.prod(sizes) != count:
        raise Rejected(
            Reason.SHAPE_MISMATCH,
            f"{what}: the shape does not hold {count} values in at most {MAX_DIMENSIONS} dimensions",
        )
    rows = sizes[0] if sizes else 1
    check_rows(rows, what)
    width = count // rows if rows else 1
    if count > MAX_VALUES:
        raise Rejected(
            Reason.TOO_MANY_ROWS, f"{what}: {count} values, more than {MAX_VALUES}; send the rows in several events"
        )
    if width > MAX_COLUMNS:
        raise Rejected(Reason.ROW_TOO_LARGE, f"{what}: a row has {width} columns, more than {MAX_COLUMNS}")
    return width


def rows_of_tensor(shape: Sequence[int], values: Sequence[Any], what: str) -> list[Row]:
    """Rows of a row-major tensor: the first dimension counts rows, the others are flattened into columns."""
    width = check_shape(shape, len(values), what)
    if any(isinstance(value, str) for value in values):
        values = [number(value, what) for value in values]
    if width == 1:
        return [value if isinstance(value, bool) else number(value, what) for value in values]
    return [_columns(list(values[start : start + width]), what) for start in range(0, len(values), width)]


def listed(values: np.ndarray[Any, np.dtype[Any]], shape: Sequence[int], what: str) -> list[Any]:
    """The values of an array for `rows_of_tensor`; those of columns as floats, which it takes ten times as fast as
    integers.
    """
    columns = check_shape(shape, values.size, what) > 1
    return (values.astype(float) if columns else values).tolist()  # type: ignore[no-any-return]


def rows_of_texts(shape: Sequence[int], texts: list[Row], what: str) -> list[Row]:
    """Rows of a row-major tensor of texts; a row of several texts is no label."""
    width = check_shape(shape, len(texts), what)
    if width == 1:
        return texts
    return [Unreadable(f"{what}: a row has several texts")] * (len(texts) // width)


def flattened(values: list[Any]) -> list[Any]:
    """The elements of nested lists, in order; takes time in proportion to their number, however deep they are
    nested.
    """
    flat: list[Any] = []
    open_lists = [iter(values)]
    while open_lists:
        for value in open_lists[-1]:
            if isinstance(value, list):
                open_lists.append(iter(value))
                break
            flat.append(value)
        else:
            open_lists.pop()
    return flat


def bytes_of(encoded: Any, what: str) -> bytes:
    """The bytes that JSON holds as base64, or that protobuf holds as they are."""
    if isinstance(encoded, bytes):
        return encoded
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: not base64") from error


def text_of(data: bytes, what: str) -> Row:
    """The text that bytes hold, if it is UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Unreadable(f"{what}: bytes that are not UTF-8 text")


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
