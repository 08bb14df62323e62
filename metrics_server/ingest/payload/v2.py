"""The Open Inference Protocol (V2): output tensors as JSON, and with their values as raw bytes behind the JSON.

The first output tensor is the prediction. Binary values stand after the JSON in the order of its tensors,
little-endian; texts have their lengths before them. What sizes and shapes claim is compared with the bytes that are
there before use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read
from metrics_server.ingest.payload.rows import (
    MAX_DIMENSIONS,
    Row,
    bytes_of,
    check_shape,
    flattened,
    listed,
    rows_of_tensor,
    rows_of_texts,
    text_of,
)

# Element types: the numpy type of their bytes. Texts have none.
DATATYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "",
}
_LENGTH_BYTES = 4  # before each text
_SCANNER = json.JSONDecoder()


class Output(msgspec.Struct, gc=False):
    """One tensor of an answer."""

    datatype: str
    shape: list[int] = []
    data: Any = msgspec.UNSET
    parameters: Mapping[str, Any] | None = None

    def parameter(self, name: str) -> Any:
        """Returns the value of a parameter, None when it is not there."""
        return (self.parameters or {}).get(name)


class _Answer(msgspec.Struct, gc=False):
    outputs: list[Output]


_ANSWER = msgspec.json.Decoder(_Answer)


def is_v2(outputs: Any) -> bool:
    """Tells whether `outputs` of an answer are V2's tensors; TensorFlow's columns have the same name."""
    return isinstance(outputs, list) and bool(outputs) and isinstance(outputs[0], dict) and "datatype" in outputs[0]


def rows_of_outputs(outputs: list[Any], what: str) -> list[Row]:
    """Rows of the first of these tensors of decoded JSON.

    Raises:
        Rejected: it is malformed; or it has no values, as in the description of a model.
    """
    try:
        first = msgspec.convert(outputs[0], Output)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: {error}") from error
    return rows_of_output(first, what)


def rows_of_output(output: Output, what: str) -> list[Row]:
    """Rows of a tensor whose values are a list, nested or flat; its first dimension counts rows."""
    if output.data is msgspec.UNSET:
        if output.parameter("binary_data_size") is not None:
            raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: the bytes of a binary tensor are missing")
        raise Rejected(Reason.UNKNOWN_PROTOCOL, f"{what}: tensors without values; is this the description of a model?")
    values = flattened(output.data) if isinstance(output.data, list) else [output.data]
    if _numpy_type(output, what):
        return rows_of_tensor(output.shape, values, what)
    check_shape(output.shape, len(values), what)
    encoded = output.parameter("content_type") == "base64"
    return rows_of_texts(output.shape, [_text(value, encoded=encoded, what=what) for value in values], what)


def _numpy_type(output: Output, what: str) -> str:
    try:
        return DATATYPES[output.datatype]
    except KeyError as error:
        raise Rejected(
            Reason.MALFORMED_PAYLOAD, f"{what}: a datatype that is not read; want one of {', '.join(DATATYPES)}"
        ) from error


def _text(value: Any, *, encoded: bool, what: str) -> Row:
    if not isinstance(value, (str, bytes)):
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: values of BYTES are texts")
    if encoded:
        value = bytes_of(value.decode("latin-1") if isinstance(value, bytes) else value, what)
    return text_of(value, what) if isinstance(value, bytes) else value


def rows_with_binary(body: bytes, what: str) -> list[Row] | None:
    """Rows of JSON with binary tensors after it; None when the body is no such thing.

    Raises:
        Rejected: the sizes do not add up to the bytes there are, or not to the shape.
    """
    end = end_of_json(body)
    try:
        outputs = read(body[:end], _ANSWER, Reason.UNKNOWN_PROTOCOL, what).outputs
    except Rejected:
        return None
    if not any(output.parameter("binary_data_size") is not None for output in outputs):
        return None
    for output in outputs:
        size = output.parameter("binary_data_size")
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(body) - end:
            raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: a binary tensor says another size than it has")
        if output is outputs[0]:
            output.data = values_of(output, body[end : end + size], what)
        end += size
    if end != len(body):
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: {len(body) - end} bytes more than the binary tensors say")
    return rows_of_output(outputs[0], what)


def end_of_json(body: bytes) -> int:
    """Finds the end of the first JSON value of a body, 0 when it does not. One character a byte, so that positions
    agree.
    """
    try:
        return _SCANNER.raw_decode(body.decode("latin-1"))[1]
    except (ValueError, RecursionError):
        return 0


def values_of(output: Output, raw: bytes, what: str) -> list[Any]:
    """The values in the bytes of a tensor, as many as its shape says; texts as bytes.

    Raises:
        Rejected: they are more or fewer.
    """
    if not (numpy_type := _numpy_type(output, what)):
        return _texts_of(output.shape, raw, what)
    if len(raw) % np.dtype(numpy_type).itemsize:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: the bytes end within a value")
    return listed(np.frombuffer(raw, dtype=numpy_type), output.shape, what)


def _texts_of(shape: list[int], raw: bytes, what: str) -> list[bytes]:
    count = math.prod(shape) if len(shape) <= MAX_DIMENSIONS else -1
    if not 0 <= count <= len(raw) // _LENGTH_BYTES:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: the shape holds more texts than there can be")
    check_shape(shape, count, what)
    texts, position = [], 0
    for _ in range(count):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(raw[position:start], "little")
        if position > len(raw):
            break
        texts.append(raw[start:position])
    if len(texts) != count or position != len(raw):
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: the lengths of the texts do not add up")
    return texts
