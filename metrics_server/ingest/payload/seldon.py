"""Seldon's protocol as JSON: SeldonMessage and Feedback (protobuf's JSON mapping, and what people write by hand).

A message may hold the rows of another protocol in place of its own content, as TensorFlow's and V2's deployments send
them: `JsonReader` reads the messages of all protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import UNSET, UnsetType

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.protocol import Member, Protocol, is_given
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
from metrics_server.ingest.payload.tensorflow import rows_of_tensor_proto
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
    """The part of a message's metadata that is read: the client's own id, scalars attached to it, the nodes it went
    through; and what the model says of itself, undecoded, for most servers leave it alone.
    """

    puid: str | None = None
    tags: Any = None
    requestPath: Any = None
    metrics: msgspec.Raw = msgspec.Raw()


class Message(msgspec.Struct, gc=False):
    """A SeldonMessage."""

    data: DefaultData | UnsetType | None = UNSET
    jsonData: Any = UNSET
    strData: str | UnsetType | None = UNSET
    binData: str | UnsetType | None = UNSET
    customData: Any = UNSET
    meta: Meta | None = None


class RequestPart(msgspec.Struct, gc=False):
    """The metadata of a request; its features are not read."""

    meta: Meta | None = None


class Feedback(msgspec.Struct, gc=False):
    """A Feedback. An absent truth or reward is told from null: JSON of protobuf leaves a reward of 0 out."""

    request: RequestPart | None = None
    response: Message | None = None
    truth: Message | UnsetType | None = UNSET
    reward: Any = UNSET


Members: TypeAlias = "Sequence[tuple[str, Member]]"

_REQUEST = msgspec.json.Decoder(RequestPart)


def parsed_request(request: RequestPart) -> ParsedPayload:
    """Takes ids and tags of a request."""
    parsed = ParsedPayload()
    if request.meta is not None:
        _describe(parsed, request.meta)
    return parsed


def parsed_response(message: Message, rows: list[Row] | None) -> ParsedPayload:
    """Joins the metadata of a logged response with its rows: an opaque one for what no metric can read (an image, an
    object), or where it has none.
    """
    parsed = ParsedPayload(response=opaque(rows or [None]))
    if message.meta is not None:
        _describe(parsed, message.meta)
        _trace(parsed, message.meta)
        parsed.metrics = message.meta.metrics
    return parsed


def parsed_feedback(feedback: Feedback, members: Members) -> ParsedPayload:
    """Takes what a feedback tells, with as many truth rows as response rows.

    Raises:
        Rejected: malformed, without truth and reward, or with unlike numbers of rows.
    """
    sent, reply, known = feedback.request, feedback.response, None if feedback.truth is UNSET else feedback.truth
    truth = None if known is None else rows_of_message(known, members, "truth")
    response = None if reply is None else rows_of_message(reply, members, "response")
    reward = _reward_of(feedback)
    if feedback.truth is None and reward is None:  # a truth of null takes back what was said of these rows
        truth = [None] * len(response or [None])
    if reward is None and (truth is None or (not truth and not response)):
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: neither a truth nor a reward")
    parsed = _compared(truth, response, reward)
    if truth is not None and len(truth) > 1 and known is not None and _is_flat(known):
        parsed.is_flat = parsed.response is None or len(parsed.response) == 1 or (reply is not None and _is_flat(reply))
    for part in (reply, sent, known):
        if part is not None and part.meta is not None:
            _describe(parsed, part.meta)
    if reply is not None and reply.meta is not None:
        _trace(parsed, reply.meta)
    return parsed


def _reward_of(feedback: Feedback) -> float | None:
    """Reads the reward; 0 where neither it nor a truth is said, which protobuf's JSON makes of a reward of 0."""
    if feedback.reward is UNSET:
        is_zero = feedback.truth is UNSET and (feedback.request is not None or feedback.response is not None)
        return 0.0 if is_zero else None
    if isinstance(feedback.reward, bool):
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: a reward is a number")
    return None if feedback.reward is None else float(number(feedback.reward, "reward"))


def _is_flat(message: Message) -> bool:
    """Tells whether the rows of a message stand in a flat list, and nothing gives them a shape."""
    data = message.data
    if isinstance(data, DefaultData) and data.tensor is not None:
        return len(data.tensor.shape) == 1
    values = data.ndarray if isinstance(data, DefaultData) else _unwrapped(message.jsonData)
    return isinstance(values, list) and not any(isinstance(value, (list, dict)) for value in values)


def _compared(truth: list[Row] | None, response: list[Row] | None, reward: float | None) -> ParsedPayload:
    """Aligns the rows of truth and response. A reward may be for an answer that is not read; a truth may not."""
    if truth is None:
        return ParsedPayload(None if response is None else opaque(response), None, reward)
    if response is None:
        return ParsedPayload(None, checked(truth, "truth"), reward)
    truths, predictions = _aligned(checked(truth, "truth"), checked(response, "response"))
    return ParsedPayload(predictions, truths, reward)


def _describe(parsed: ParsedPayload, meta: Meta) -> None:
    """Adds the id and the tags of one part; those of a part before it stand."""
    if meta.puid and meta.puid not in parsed.puids:
        parsed.puids.append(meta.puid)
    if meta.tags and isinstance(meta.tags, dict):
        parsed.tags = {
            name: tag for name, tag in meta.tags.items() if isinstance(tag, (str, bool, int, float))
        } | parsed.tags


def _trace(parsed: ParsedPayload, meta: Meta) -> None:
    """Adds the nodes that the metadata of a response name."""
    if isinstance(meta.requestPath, dict):
        parsed.path = list(meta.requestPath)


def _aligned(truth: list[RowValue], response: list[RowValue]) -> tuple[list[RowValue], list[RowValue]]:
    """Gives both the same number of rows. A flat list beside a single row of its length is a single row too."""
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


def rows_of_message(message: Message, members: Members, what: str) -> list[Row] | None:
    """Reads the rows of the first of these members that a message has; None when it has none."""
    for name, (rows_of, is_its, _) in members:
        value = getattr(message, name)
        if value is not UNSET and is_its(value):
            return rows_of(value, what)
    return None


def _rows_of_data(data: DefaultData, what: str) -> list[Row]:
    if type(data.ndarray) is list and data.tensor is None:  # what nearly all are
        return rows_of_json(data.ndarray, what)
    if data.tensor is not None:
        return rows_of_tensor(data.tensor.shape, data.tensor.values, what)
    if data.ndarray is not UNSET:
        raise Rejected(Reason.SHAPE_MISMATCH, f"{what}: ndarray must be a list")
    if data.tftensor is not None:
        return rows_of_tensor_proto(data.tftensor, what)
    raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: data without tensor, ndarray or tftensor")


def _rows_of_object(value: Any, what: str) -> list[Row]:
    """Reads the rows of jsonData; an object with one member stands for that member, such as {"price": 12.5}."""
    value = _unwrapped(value)
    if isinstance(value, dict):
        raise Rejected(
            Reason.MALFORMED_PAYLOAD, f"{what}: jsonData has {len(value)} members; want a value, a list, or one member"
        )
    return rows_of_json(value, what)


def _unwrapped(value: Any) -> Any:
    while isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return value


def _refused(value: Any, what: str) -> list[Row]:
    raise Rejected(Reason.MALFORMED_PAYLOAD, f"{what}: customData is not read")


def _always(value: Any) -> bool:
    """Takes a member with whatever value: null is one of its values."""
    return True


def _content(rows_of: Callable[[Any, str], list[Row]], is_its: Callable[[Any], bool] = is_given) -> Member:
    """Makes a member of Seldon's own: what cannot be read as a whole is one opaque row."""

    def rows_or_unreadable(value: Any, what: str) -> list[Row]:
        try:
            return rows_of(value, what)
        except Rejected as error:
            return [unreadable(error)]

    return Member(rows_or_unreadable, is_its)


MEMBERS = {
    "data": _content(_rows_of_data),
    "jsonData": _content(_rows_of_object, _always),
    "strData": _content(lambda text, what: [text]),
    "binData": _content(lambda encoded, what: [text_of(bytes_of(encoded, what), what)]),
    "customData": _content(_refused, _always),
}


class JsonReader:
    """Reads JSON of any protocol, by the members of its messages."""

    def __init__(self, protocols: Iterable[Protocol]) -> None:
        self._titles = ", ".join(protocol.title for protocol in protocols if protocol.members)
        self._logged = _in_order(protocols)
        self._within_feedback = [(name, member) for name, member in self._logged if not member.logged_only]
        part = _message_with(self._within_feedback)
        feedback = msgspec.defstruct(
            "Feedback",
            [("response", part | None, None), ("truth", part | UnsetType | None, UNSET)],
            bases=(Feedback,),
            gc=False,
        )
        self._response: msgspec.json.Decoder[Message] = msgspec.json.Decoder(_message_with(self._logged))
        self._feedback: msgspec.json.Decoder[Feedback] = msgspec.json.Decoder(feedback)

    def read_request(self, body: bytes | msgspec.Raw) -> ParsedPayload:
        """Reads ids and tags of a request."""
        return parsed_request(read(body, _REQUEST, Reason.MALFORMED_PAYLOAD, "request"))

    def read_response(self, body: bytes | msgspec.Raw) -> ParsedPayload:
        """Reads a logged response.

        Raises:
            Rejected: its rows are malformed, or it has none of any protocol.
        """
        message = read(body, self._response, Reason.UNKNOWN_PROTOCOL, "response")
        rows = rows_of_message(message, self._logged, "response")
        if rows is None and message.meta is None:
            raise Rejected(Reason.UNKNOWN_PROTOCOL, f"response: no member of a protocol that is read: {self._titles}")
        return parsed_response(message, rows)

    def read_feedback(self, body: bytes | msgspec.Raw) -> ParsedPayload:
        """Reads truth, response and reward of a feedback, see `parsed_feedback`."""
        feedback = read(body, self._feedback, Reason.MALFORMED_FEEDBACK, "feedback")
        return parsed_feedback(feedback, self._within_feedback)


def _in_order(protocols: Iterable[Protocol]) -> Members:
    """Lists the members of all protocols, those of one name together, where the first of them stands."""
    by_name: dict[str, list[Member]] = {}
    for protocol in protocols:
        for name, member in protocol.members.items():
            by_name.setdefault(name, []).append(member)
    return [(name, member) for name, members in by_name.items() for member in members]


def _message_with(members: Members) -> type[Message]:
    """Makes the structure of messages that have, beside Seldon's, these members."""
    others = dict.fromkeys(name for name, _ in members if name not in Message.__struct_fields__)
    fields = [(name, Any, UNSET) for name in others]
    return cast("type[Message]", msgspec.defstruct("Message", fields, bases=(Message,), gc=False))
