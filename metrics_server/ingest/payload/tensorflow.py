"""TensorFlow's protocol (V1) as JSON: predictions row by row or by column, and its TensorProto."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.payload.rows import (
    MAX_COLUMNS,
    MAX_DIMENSIONS,
    Row,
    Unreadable,
    bytes_of,
    check_rows,
    flattened,
    listed,
    row_of,
    rows_of_tensor,
    rows_of_texts,
    text_of,
    unreadable,
)


def rows_of_v1(value: Any, what: str) -> list[Row]:
    """Rows of `predictions`, `instances`, `outputs` or `inputs`: the elements of a list, or of named lists side by
    side.

    Several named outputs of one row are one opaque row: their names have no order, and nothing says which is the
    prediction.
    """
    if isinstance(value, dict) and "b64" not in value:
        return _rows_of_columns(value, what)
    elements = value if isinstance(value, list) else [value]
    check_rows(len(elements), what)
    return [_row_of_element(element, what) for element in elements]


def _rows_of_columns(outputs: dict[str, Any], what: str) -> list[Row]:
    if len(outputs) == 1:
        (values,) = outputs.values()
        return rows_of_v1(values, what)
    first: Any = next(iter(outputs.values()), [])
    count = len(first) if isinstance(first, list) else 1
    check_rows(count, what)
    return [_several(len(outputs), what)] * count


def _several(count: int, what: str) -> Unreadable:
    return Unreadable(f"{what}: {count} named outputs; want one")


def _row_of_element(element: Any, what: str) -> Row:
    """A scalar, an array of any dimensions, an object with one member, or bytes as {"b64": ...}."""
    while isinstance(element, dict):
        if len(element) != 1:
            return _several(len(element), what)
        ((name, element),) = element.items()
        if name == "b64" and not isinstance(element, dict):
            return _text_of_base64(element, what)
    if isinstance(element, list) and any(isinstance(value, list) for value in element):
        element = flattened(element)
    try:
        return row_of(element, what)
    except Rejected as error:
        return unreadable(error)


def _text_of_base64(encoded: Any, what: str) -> Row:
    try:
        return text_of(bytes_of(encoded, what), what)
    except Rejected as error:
        return unreadable(error)


# TensorFlow's element types by name and number: the numpy type of tensorContent, and the member that lists values.
_DTYPES = {
    "DT_FLOAT": (1, "<f4", "floatVal"),
    "DT_DOUBLE": (2, "<f8", "doubleVal"),
    "DT_INT32": (3, "<i4", "intVal"),
    "DT_UINT8": (4, "u1", "intVal"),
    "DT_INT16": (5, "<i2", "intVal"),
    "DT_INT8": (6, "i1", "intVal"),
    "DT_STRING": (7, "", "stringVal"),
    "DT_INT64": (9, "<i8", "int64Val"),
    "DT_BOOL": (10, "?", "boolVal"),
    "DT_UINT32": (22, "<u4", "uint32Val"),
    "DT_UINT64": (23, "<u8", "uint64Val"),
}
_DTYPE_NAMES = {number: name for name, (number, _, _) in _DTYPES.items()}


def rows_of_tensor_proto(tensor: dict[str, Any], what: str) -> list[Row]:
    """Rows of a TensorProto, in snake_case as written by hand or in camelCase with string sizes as protobuf writes it.

    Raises:
        Rejected: a dtype that is not read, or values that do not fit dtype and shape.
    """
    members = {_camel(name): value for name, value in tensor.items()}
    dtype = members.get("dtype", 0)
    name = _DTYPE_NAMES.get(dtype, "") if isinstance(dtype, int) else str(dtype)
    if name not in _DTYPES:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: a tensor of a dtype that is not read")
    _, numpy_type, member = _DTYPES[name]
    shape = _shape_of(members.get("tensorShape"), what)
    content = members.get("tensorContent")
    if content and numpy_type:
        return rows_of_tensor(shape, _content(bytes_of(content, what), numpy_type, shape, what), what)
    values = members.get(member, [])
    values = _filled(values if isinstance(values, list) else [values], shape)
    if not numpy_type:
        texts = [text_of(bytes_of(value, what), what) for value in values]
        return rows_of_texts(shape if "tensorShape" in members else [len(texts)], texts, what)
    return rows_of_tensor(shape, values, what)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _shape_of(shape: Any, what: str) -> list[int]:
    try:
        return [int(dimension.get("size", 0)) for dimension in shape.get("dim", [])] if shape else []
    except (AttributeError, TypeError, ValueError) as error:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: tensorShape is not understood") from error


def _content(content: bytes, numpy_type: str, shape: list[int], what: str) -> list[Any]:
    try:
        values = np.frombuffer(content, dtype=numpy_type)
    except ValueError as error:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: tensorContent does not hold values of its dtype") from error
    return listed(values, shape, what)


def _filled(values: list[Any], shape: list[int]) -> list[Any]:
    """TensorFlow leaves out repetitions of the last value; filled up only by as much as one row may hold."""
    missing = math.prod(shape) - len(values) if len(shape) <= MAX_DIMENSIONS else 0
    if values and 0 < missing <= MAX_COLUMNS:
        return [*values, *([values[-1]] * missing)]
    return values
