"""Payload protocols: bytes to rows, one module each. `PROTOCOLS` is the table of them; `read` finds the one of a body.

To add a protocol: a module with a function that reads its rows, a row in the table, a line in
docs/reference/payloads.md, and tests. Protobuf messages have their readers in `protobuf`, the home of that package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import media_type
from metrics_server.ingest.payload import grpc_frames, seldon
from metrics_server.ingest.payload.openai import is_stream, rows_of_choices
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.protocol import Member, Protocol, first_parsed, is_given
from metrics_server.ingest.payload.rows import check_rows, opaque
from metrics_server.ingest.payload.tensorflow import rows_of_v1
from metrics_server.ingest.payload.v2 import is_v2, rows_of_outputs, rows_with_binary
from metrics_server.metrics.labels import EventKind

Body: TypeAlias = "bytes | msgspec.Raw"
Reader: TypeAlias = "Callable[[str, Body], ParsedPayload]"

_PROTOBUF_TYPES = {"application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf"}
_UNSTATED_TYPES = {"", "application/octet-stream"}
_AS_BYTES_BEHIND_JSON = {Reason.MALFORMED_JSON, Reason.NOT_A_NUMBER, Reason.INVALID_UTF8, Reason.SHAPE_MISMATCH}
_LONGEST_BLANK = 64  # bytes before JSON whose content type is not stated


def _protobuf() -> ModuleType:
    """Imports what reads protobuf, an extra, when the first such body comes."""
    try:
        from metrics_server.ingest.payload import protobuf
    except Exception as error:  # an ImportError, or protobuf's own error that it is too old
        raise Rejected(
            Reason.UNSUPPORTED_FORMAT, "protobuf is not read; install feedback-metrics-server[protobuf]"
        ) from error
    return protobuf


def _is_columns(value: Any) -> bool:
    """Tells TensorFlow's columns from V2's tensors, which have one name; the description of a model has neither."""
    return bool(value) and not is_v2(value)


# JSON is read by the first of these members, protocol after protocol: so an answer stands before the request that it
# may repeat. A transformer's logged response has the names of the request that it is made for.
PROTOCOLS = (
    Protocol(
        "Seldon",
        names=("seldon",),
        members=seldon.MEMBERS,
        protobuf={
            EventKind.REQUEST: lambda body: _protobuf().read_seldon_request(body),
            EventKind.RESPONSE: lambda body: _protobuf().read_seldon_response(body),
            EventKind.FEEDBACK: lambda body: _protobuf().read_seldon_feedback(body),
        },
        tried=2,
    ),
    Protocol(
        "TensorFlow",
        names=("tensorflow",),
        members={
            "predictions": Member(rows_of_v1, is_given),
            "outputs": Member(rows_of_v1, _is_columns),
            "instances": Member(rows_of_v1, logged_only=True),
            "inputs": Member(rows_of_v1, _is_columns, logged_only=True),
        },
        protobuf={EventKind.RESPONSE: lambda body: _protobuf().read_tensorflow_response(body)},
        tried=3,
    ),
    Protocol(
        "V2",
        names=("v2", "kfserving"),
        members={
            "outputs": Member(rows_of_outputs, is_v2),
            "inputs": Member(rows_of_outputs, is_v2, logged_only=True),
        },
        protobuf={EventKind.RESPONSE: lambda body: _protobuf().read_v2_response(body)},
        tried=1,
        rows_behind_json=rows_with_binary,
    ),
    Protocol("OpenAI", members={"choices": Member(rows_of_choices, logged_only=True)}, is_stream=is_stream),
)


class PayloadReader:
    """Finds the protocol of a body in a table, and reads it."""

    def __init__(self, protocols: Sequence[Protocol]) -> None:
        self._protocols = protocols
        self._messages = messages = seldon.JsonReader(protocols)
        self._json: dict[EventKind, Reader] = {
            EventKind.REQUEST: lambda protocol, data: messages.read_request(data),
            EventKind.RESPONSE: self._read_response,
            EventKind.FEEDBACK: lambda protocol, data: messages.read_feedback(data),
        }
        self._protobuf = {kind: _ProtobufReader(protocols, kind) for kind in self._json}
        self._grpc = {kind: _grpc_reader(reader) for kind, reader in self._protobuf.items()}

    def read(self, kind: EventKind, protocol: str, content_type: str, data: Body) -> ParsedPayload:
        """Reads the data of an event, see `read` of this package."""
        reader = self._reader_of(kind, content_type, data)
        try:
            return reader(protocol, data)
        except Rejected:
            if kind != EventKind.REQUEST:
                raise
            return ParsedPayload()

    def _reader_of(self, kind: EventKind, content_type: str, data: Body) -> Reader:
        """Decides by the first byte, where it tells (no protobuf message of ours begins with a brace); else by what is
        stated.
        """
        if not isinstance(data, bytes) or data[:1] == b"{":
            return self._json[kind]
        media = media_type(content_type)
        if media in _PROTOBUF_TYPES:
            return self._protobuf[kind]
        if grpc_frames.is_grpc(media):
            return self._grpc[kind]
        if kind == EventKind.RESPONSE and self._is_stream(data):
            return _read_stream
        if (
            media not in _UNSTATED_TYPES
            or (kind == EventKind.FEEDBACK and not media)
            or data[:_LONGEST_BLANK].lstrip()[:1] in (b"{", b"[")
        ):
            return self._json[kind]
        return self._protobuf[kind]

    def _is_stream(self, data: bytes) -> bool:
        return any(protocol.is_stream(data) for protocol in self._protocols if protocol.is_stream)

    def _read_response(self, protocol: str, data: Body) -> ParsedPayload:
        """Reads a response in JSON. Bytes behind it make it look malformed in one way or another."""
        try:
            return self._messages.read_response(data)
        except Rejected as error:
            if error.reason not in _AS_BYTES_BEHIND_JSON:
                raise
            for row in self._protocols:
                if row.rows_behind_json and (rows := row.rows_behind_json(bytes(data), "response")) is not None:
                    return ParsedPayload(response=opaque(rows or [None]))
            raise


def _read_stream(protocol: str, data: Body) -> ParsedPayload:
    return ParsedPayload(response=[None])


class _ProtobufReader:
    """Reads events of a kind in protobuf, by the protocol that they state or else by trial."""

    def __init__(self, protocols: Sequence[Protocol], kind: EventKind) -> None:
        self._kind = kind
        having = sorted((row for row in protocols if kind in row.protobuf), key=lambda row: row.tried)
        self._readers = [row.protobuf[kind] for row in having]
        self._by_name = {name: row.protobuf[kind] for row in having for name in row.names}
        self._titles = ", ".join(row.title for row in having)

    def __call__(self, protocol: str, data: Body) -> ParsedPayload:
        if protocol and protocol not in self._by_name and self._kind == EventKind.REQUEST:
            return ParsedPayload()  # requests of the other protocols hold no ids
        parsed = self._parsed(protocol, bytes(data))
        if parsed is None:
            raise Rejected(
                Reason.UNKNOWN_PROTOCOL,
                f"{self._kind}: no message in protobuf of a protocol that is read: {self._titles}",
            )
        return parsed

    def _parsed(self, protocol: str, data: bytes) -> ParsedPayload | None:
        if protocol in self._by_name:
            return self._by_name[protocol](data)
        return self._readers[0](data) if len(self._readers) == 1 else first_parsed(self._readers, data)


def _grpc_reader(read_protobuf: Reader) -> Reader:
    """Makes the reader of protobuf in gRPC's frames; the rows of a stream are one after another."""

    def read_grpc(protocol: str, data: Body) -> ParsedPayload:
        parts = [read_protobuf(protocol, message) for message in grpc_frames.messages_of(bytes(data))]
        return parts[0] if len(parts) == 1 else _joined(parts)

    return read_grpc


def _joined(parts: Sequence[ParsedPayload]) -> ParsedPayload:
    """Joins the messages of a stream of responses; ids and tags are those of the earliest that has them."""
    if any(part.response is None or part.truth or part.reward is not None for part in parts):
        raise Rejected(Reason.MALFORMED_PAYLOAD, "gRPC: a feedback is one message")
    rows = [row for part in parts for row in part.response or []]
    check_rows(len(rows), "response")
    tags = {name: value for part in reversed(parts) for name, value in part.tags.items()}
    return ParsedPayload(
        response=rows,
        puids=list(dict.fromkeys(puid for part in parts for puid in part.puids)),
        tags=tags,
        path=list(dict.fromkeys(name for part in parts for name in part.path)),
    )


_READER = PayloadReader(PROTOCOLS)


def read(kind: EventKind, protocol: str, content_type: str, data: Body) -> ParsedPayload:
    """Reads the data of an event in whatever protocol they are.

    Args:
        kind: REQUEST, RESPONSE or FEEDBACK.
        protocol: as the event states it (seldon, tensorflow, v2, kfserving); "" when it does not. Only protobuf needs
            it: JSON shows its protocol by its members.
        content_type: as the event states it, "" when it does not. Believed where the body itself says nothing else,
            since KServe states the request's with the response. In gRPC's frames no message is compressed any more.
        data: not compressed.

    Raises:
        Rejected: the data cannot be read. Never for a request, of which nothing is needed: what is parsed is then
            empty.
    """
    return _READER.read(kind, protocol, content_type, data)
