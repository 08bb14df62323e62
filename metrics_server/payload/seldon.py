"""Seldon's protocol as JSON: SeldonMessage and Feedback (protobuf's JSON mapping, and what people write by hand)."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import msgspec
import numpy as np

from metrics_server.errors import Reason, Rejected
from metrics_server.json import read
from metrics_server.payload.rows import MAX_COLUMNS, MAX_DIMENSIONS, checked, number, opaque, rows_of_json, rows_of_tensor
from metrics_server.task import Value


class Tensor(msgspec.Struct, gc=False):
    """Row-major doubles with their shape."""

    shape: list[int] = []
    values: list[Any] = []


class DefaultData(msgspec.Struct, gc=False):
    """One of tensor, ndarray, tftensor. Column names are not read: they name classes only where configured."""

    tensor: Tensor | None = None
    ndarray: Any = msgspec.UNSET
    tftensor: dict[str, Any] | None = None


class Meta(msgspec.Struct, gc=False):
    """Of the message's metadata only the client's own id."""

    puid: str | None = None


class Message(msgspec.Struct, gc=False):
    """A SeldonMessage."""

    data: DefaultData | None = None
    jsonData: Any = msgspec.UNSET
    strData: str | None = None
    binData: str | None = None
    customData: Any = msgspec.UNSET
    meta: Meta | None = None


class RequestPart(msgspec.Struct, gc=False):
    """Of a feedback's request only its id; features are not looked at."""

    meta: Meta | None = None


class Feedback(msgspec.Struct, gc=False):
    """A Feedback. An absent reward and a reward of 0 are told apart, as the text does."""

    request: RequestPart | None = None
    response: Message | None = None
    truth: Message | None = None
    reward: Any = None


class Reading(msgspec.Struct, gc=False):
    """What a payload says: rows of the prediction, rows of the truth, a reward, and ids the client gave."""

    response: list[Value] | None = None
    truth: list[Value] | None = None
    reward: float | None = None
    puids: list[str] = []


_REQUEST = msgspec.json.Decoder(RequestPart)
_MESSAGE = msgspec.json.Decoder(Message)
_FEEDBACK = msgspec.json.Decoder(Feedback)


def read_request(body: bytes | msgspec.Raw) -> Reading:
    """The id in a request; its features are not read. A body of another protocol says nothing."""
    try:
        part = read(body, _REQUEST, Reason.MALFORMED_PAYLOAD, "request")
    except Rejected:
        return Reading()
    return Reading(puids=_puids(part.meta))


def read_response(body: bytes | msgspec.Raw) -> Reading:
    """The rows of a prediction; one opaque row when they are nothing that a metric can read (an image, an object)."""
    message = read(body, _MESSAGE, Reason.MALFORMED_PAYLOAD, "response")
    try:
        rows = opaque(_rows(message, "response") or [None])
    except Rejected as error:
        if error.reason is not Reason.MALFORMED_PAYLOAD:
            raise
        rows = [None]
    return Reading(response=rows, puids=_puids(message.meta))


def read_feedback(body: bytes | msgspec.Raw) -> Reading:
    """Truth, response and reward of a feedback, with as many truth rows as response rows.

    Raises:
        Rejected: malformed, without truth and reward, or with unlike numbers of rows.
    """
    feedback = read(body, _FEEDBACK, Reason.MALFORMED_FEEDBACK, "feedback")
    truth = None if feedback.truth is None else _rows(feedback.truth, "truth")
    response = None if feedback.response is None else _rows(feedback.response, "response")
    if isinstance(feedback.reward, bool):
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: a reward is a number")
    reward = None if feedback.reward is None else float(number(feedback.reward, "reward"))
    if reward is None and (truth is None or (not truth and not response)):
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: neither a truth nor a reward")
    if truth is not None and response is not None:
        truth, response = _aligned(checked(truth, "truth"), checked(response, "response"))
    parts = (feedback.response, feedback.request, feedback.truth)
    return Reading(response, truth, reward, [puid for part in parts if part is not None for puid in _puids(part.meta)])


def _aligned(truth: list[Value], response: list[Value]) -> tuple[list[Value], list[Value]]:
    """Both with the same number of rows. A flat list beside a single row of its length is a single row too."""
    if len(truth) != len(response):
        truth, response = _as_row(truth, response), _as_row(response, truth)
    if len(truth) != len(response):
        raise Rejected(Reason.ROW_MISMATCH, f"feedback: {len(truth)} rows of truth for {len(response)} rows of response")
    return truth, response


def _as_row(rows: list[Value], other: list[Value]) -> list[Value]:
    wide = len(other) == 1 and isinstance(other[0], list) and len(other[0]) == len(rows)
    if wide and all(isinstance(value, (int, float)) for value in rows):
        return [[float(value) for value in rows]]  # type: ignore[arg-type]
    return rows


def _puids(meta: Meta | None) -> list[str]:
    return [meta.puid] if meta is not None and meta.puid else []


def _rows(message: Message, what: str) -> list[Value] | None:
    """The rows of a message, None when it is empty.

    Raises:
        Rejected: its content is of a form that holds no rows.
    """
    if message.data is not None:
        return _rows_of_data(message.data, what)
    if message.jsonData is not msgspec.UNSET:
        return _rows_of_object(message.jsonData, what)
    if message.strData is not None:
        return [message.strData]
    if message.binData is not None:
        return [_text_of(message.binData, what)]
    if message.customData is not msgspec.UNSET:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: customData is not read")
    return None


def _rows_of_data(data: DefaultData, what: str) -> list[Value]:
    if data.tensor is not None:
        return rows_of_tensor(data.tensor.shape, data.tensor.values, what)
    if data.ndarray is not msgspec.UNSET:
        if not isinstance(data.ndarray, list):
            raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: ndarray must be a list")
        return rows_of_json(data.ndarray, what)
    if data.tftensor is not None:
        return _rows_of_tftensor(data.tftensor, what)
    raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: data without tensor, ndarray or tftensor")


def _rows_of_object(value: Any, what: str) -> list[Value]:
    """Rows of jsonData; an object with one member stands for that member, such as {"price": 12.5}."""
    while isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    if isinstance(value, dict):
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: jsonData has {len(value)} members; want a value, a list, or one member")
    return rows_of_json(value, what)


def _text_of(encoded: str, what: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: binData is not base64 of UTF-8 text") from error


# TensorFlow's element types by name and number: the numpy type of tensorContent, and the member that lists values.
_DTYPES = {
    "DT_FLOAT": ("<f4", "floatVal"),
    "DT_DOUBLE": ("<f8", "doubleVal"),
    "DT_INT32": ("<i4", "intVal"),
    "DT_UINT8": ("u1", "intVal"),
    "DT_INT16": ("<i2", "intVal"),
    "DT_INT8": ("i1", "intVal"),
    "DT_STRING": ("", "stringVal"),
    "DT_INT64": ("<i8", "int64Val"),
    "DT_BOOL": ("?", "boolVal"),
}
_DTYPE_NUMBERS = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 10), _DTYPES, strict=True))


def _rows_of_tftensor(tensor: dict[str, Any], what: str) -> list[Value]:
    """Rows of a TensorProto, in snake_case as written by hand or in camelCase with string sizes as protobuf writes it."""
    members = {_camel(name): value for name, value in tensor.items()}
    dtype = members.get("dtype", 0)
    numpy_type, member = _DTYPES.get(_DTYPE_NUMBERS.get(dtype, "") if isinstance(dtype, int) else str(dtype), ("", ""))
    if not member:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: tftensor of a dtype that is not read")
    shape = _shape_of(members.get("tensorShape"), what)
    if content := members.get("tensorContent"):
        return rows_of_tensor(shape, _content(content, numpy_type, what), what)
    values = members.get(member, [])
    values = values if isinstance(values, list) else [values]
    if member == "stringVal":
        return [_text_of(str(value), what) for value in _filled(values, shape, what)]
    return rows_of_tensor(shape, _filled(values, shape, what), what)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _shape_of(shape: Any, what: str) -> list[int]:
    try:
        return [int(dimension.get("size", 0)) for dimension in shape.get("dim", [])] if shape else []
    except (AttributeError, TypeError, ValueError) as error:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: tensorShape is not understood") from error


def _content(content: Any, numpy_type: str, what: str) -> list[Any]:
    try:
        return np.frombuffer(base64.b64decode(content, validate=True), dtype=numpy_type).tolist()  # type: ignore[no-any-return]
    except (binascii.Error, TypeError, ValueError) as error:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: tensorContent does not hold values of its dtype") from error


def _filled(values: list[Any], shape: list[int], what: str) -> list[Any]:
    """TensorFlow leaves out repetitions of the last value; filled up only by as much as one row may hold."""
    missing = math.prod(shape) - len(values) if len(shape) <= MAX_DIMENSIONS else 0
    if values and 0 < missing <= MAX_COLUMNS:
        return [*values, *([values[-1]] * missing)]
    return values
