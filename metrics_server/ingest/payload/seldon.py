"""Seldon's protocol as JSON: SeldonMessage and Feedback (protobuf's JSON mapping, and what people write by hand).

A message may hold the rows of another protocol in place of its own data, as TensorFlow's and V2's deployments send
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read
from metrics_server.ingest.payload.openai import rows_of_choices
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.rows import (
    Row,
    bytes_of,
    checked,
    number,
    opaque,
    rows_of_json,
    rows_of_tensor,
    text_of,
    unreadable,
)
from metrics_server.ingest.payload.tensorflow import rows_of_tensor_proto, rows_of_v1
from metrics_server.ingest.payload.v2 import is_v2, rows_of_outputs
from metrics_server.metrics.task import RowValue


class Tensor(msgspec.Struct, gc=False):
    """Row-major doubles with their shape."""

    shape: list[int] = []
    values: list[Any] = []


class DefaultData(msgspec.Struct, gc=False):
    """One of tensor, ndarray, tftensor. Column names are not read: they name classes only where configured."""

    tensor: Tensor | None = None
    ndarray: Any = UNSET
    tftensor: dict[str, Any] | None = None


class Meta(msgspec.Struct, gc=False):
    """Of the message's metadata what identifies it: the client's own id, scalars attached to it, the nodes it went
    through.
    """

    puid: str | None = None
    tags: Any = None
    requestPath: Any = None


class Message(msgspec.Struct, gc=False):
    """A SeldonMessage, or the rows of a TensorFlow or V2 answer."""

    data: DefaultData | None = None
    jsonData: Any = UNSET
    strData: str | None = None
    binData: str | None = None
    customData: Any = UNSET
    meta: Meta | None = None
    predictions: Any = None
    outputs: Any = None


class LoggedResponse(Message, gc=False):
    """A logged response, of any protocol that is JSON. A transformer's has the names of the request it is made for."""

    instances: Any = None
    inputs: Any = None
    choices: Any = None


class RequestPart(msgspec.Struct, gc=False):
    """Of a request only its metadata; features are not looked at."""

    meta: Meta | None = None


class Feedback(msgspec.Struct, gc=False):
    """A Feedback. An absent reward and a reward of 0 are told apart, as the text does."""

    request: RequestPart | None = None
    response: Message | None = None
    truth: Message | None = None
    reward: Any = None


_REQUEST = msgspec.json.Decoder(RequestPart)
_LOGGED_RESPONSE = msgspec.json.Decoder(LoggedResponse)
_FEEDBACK = msgspec.json.Decoder(Feedback)


def read_request(body: bytes | msgspec.Raw) -> ParsedPayload:
    """Ids and tags of a request; its features are not read."""
    return request_reading(read(body, _REQUEST, Reason.MALFORMED_PAYLOAD, "request"))


def read_response(body: bytes | msgspec.Raw) -> ParsedPayload:
    """The rows of a prediction; an opaque row for one that is nothing a metric can read (an image, an object)."""
    return message_reading(read(body, _LOGGED_RESPONSE, Reason.UNKNOWN_PROTOCOL, "response"))


def read_feedback(body: bytes | msgspec.Raw) -> ParsedPayload:
    """Truth, response and reward of a feedback, see `feedback_reading`."""
    return feedback_reading(read(body, _FEEDBACK, Reason.MALFORMED_FEEDBACK, "feedback"))


def request_reading(request: RequestPart) -> ParsedPayload:
    """What a request says of itself."""
    reading = ParsedPayload()
    if request.meta is not None:
        _describe(reading, request.meta)
    return reading


def message_reading(message: Message) -> ParsedPayload:
    """What a logged response says.

    Raises:
        Rejected: its rows are malformed, or it has none of any protocol.
    """
    rows = _rows(message, "response")
    if rows is None and message.meta is None:
        raise Rejected(
            Reason.UNKNOWN_PROTOCOL, "response: not an answer of Seldon's, TensorFlow's, the V2 or OpenAI's protocol"
        )
    reading = ParsedPayload(response=opaque(rows or [None]))
    if message.meta is not None:
        _describe(reading, message.meta)
        _trace(reading, message.meta)
    return reading


def feedback_reading(feedback: Feedback) -> ParsedPayload:
    """What a feedback says, with as many truth rows as response rows.

    Raises:
        Rejected: malformed, without truth and reward, or with unlike numbers of rows.
    """
    sent, reply, known = feedback.request, feedback.response, feedback.truth
    truth = None if known is None else _rows(known, "truth")
    response = None if reply is None else _rows(reply, "response")
    if isinstance(feedback.reward, bool):
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: a reward is a number")
    reward = None if feedback.reward is None else float(number(feedback.reward, "reward"))
    if reward is None and (truth is None or (not truth and not response)):
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: neither a truth nor a reward")
    reading = _compared(truth, response, reward)
    for part in (reply, sent, known):
        if part is not None and part.meta is not None:
            _describe(reading, part.meta)
    if reply is not None and reply.meta is not None:
        _trace(reading, reply.meta)
    return reading


def _compared(truth: list[Row] | None, response: list[Row] | None, reward: float | None) -> ParsedPayload:
    """Truth and response in rows of each other. A reward may be for an answer that is not read; a truth may not."""
    if truth is None:
        return ParsedPayload(None if response is None else opaque(response), None, reward)
    if response is None:
        return ParsedPayload(None, checked(truth, "truth"), reward)
    known, said = _aligned(checked(truth, "truth"), checked(response, "response"))
    return ParsedPayload(said, known, reward)


def _describe(reading: ParsedPayload, meta: Meta) -> None:
    """Adds what the metadata of one part say; what a part before it said stands."""
    if meta.puid and meta.puid not in reading.puids:
        reading.puids.append(meta.puid)
    if meta.tags and isinstance(meta.tags, dict):
        reading.tags = {
            name: tag for name, tag in meta.tags.items() if isinstance(tag, (str, bool, int, float))
        } | reading.tags


def _trace(reading: ParsedPayload, meta: Meta) -> None:
    """Adds the nodes that the metadata of a response name."""
    if isinstance(meta.requestPath, dict):
        reading.path = list(meta.requestPath)


def _aligned(truth: list[RowValue], response: list[RowValue]) -> tuple[list[RowValue], list[RowValue]]:
    """Both with the same number of rows. A flat list beside a single row of its length is a single row too."""
    if len(truth) != len(response):
        truth, response = _as_row(truth, response), _as_row(response, truth)
    if len(truth) != len(response):
        raise Rejected(
            Reason.ROW_MISMATCH, f"feedback: {len(truth)} rows of truth for {len(response)} rows of response"
        )
    return truth, response


def _as_row(rows: list[RowValue], other: list[RowValue]) -> list[RowValue]:
    wide = len(other) == 1 and isinstance(other[0], list) and len(other[0]) == len(rows)
    if wide and all(isinstance(value, (int, float)) for value in rows):
        return [[float(value) for value in rows]]  # type: ignore[arg-type]
    return rows


def _rows(message: Message, what: str) -> list[Row] | None:
    """The rows of a message, None when it is empty."""
    try:
        rows = _own_rows(message, what)
    except Rejected as error:
        return [unreadable(error)]
    if rows is not None:
        return rows
    for name, rows_of in _OTHERS.items():
        value = getattr(message, name, None)
        if value or (
            value is not None and name == "predictions"
        ):  # the description of a model may have empty inputs and outputs
            return rows_of(value, what)
    return None


def _own_rows(message: Message, what: str) -> list[Row] | None:
    if message.data is not None:
        if type(message.data.ndarray) is list and message.data.tensor is None:  # what nearly all are
            return rows_of_json(message.data.ndarray, what)
        return _rows_of_data(message.data, what)
    if message.jsonData is not UNSET:
        return _rows_of_object(message.jsonData, what)
    if message.strData is not None:
        return [message.strData]
    if message.binData is not None:
        return [text_of(bytes_of(message.binData, what), what)]
    if message.customData is not UNSET:
        raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: customData is not read")
    return None


def _rows_of_data(data: DefaultData, what: str) -> list[Row]:
    if data.tensor is not None:
        return rows_of_tensor(data.tensor.shape, data.tensor.values, what)
    if data.ndarray is not UNSET:
        if not isinstance(data.ndarray, list):
            raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: ndarray must be a list")
        return rows_of_json(data.ndarray, what)
    if data.tftensor is not None:
        return rows_of_tensor_proto(data.tftensor, what)
    raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: data without tensor, ndarray or tftensor")


def _rows_of_object(value: Any, what: str) -> list[Row]:
    """Rows of jsonData; an object with one member stands for that member, such as {"price": 12.5}."""
    while isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    if isinstance(value, dict):
        raise Rejected(
            Reason.MALFORMED_PAYLOAD, f"{what}: jsonData has {len(value)} members; want a value, a list, or one member"
        )
    return rows_of_json(value, what)


def _rows_of_outputs(outputs: Any, what: str) -> list[Row]:
    """TensorFlow's columns and V2's tensors have one name."""
    return rows_of_outputs(outputs, what) if is_v2(outputs) else rows_of_v1(outputs, what)


# The other protocols by the members of their messages; an answer stands before the request that it may repeat.
_OTHERS: dict[str, Callable[[Any, str], list[Row]]] = {
    "predictions": rows_of_v1,
    "outputs": _rows_of_outputs,
    "instances": rows_of_v1,
    "inputs": _rows_of_outputs,
    "choices": rows_of_choices,
}
