"""Payload protocols: bytes to rows. One module each; `read` finds the one that a body is written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import media_type
from metrics_server.ingest.payload.openai import is_stream
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.rows import opaque
from metrics_server.ingest.payload.seldon import read_feedback, read_request, read_response
from metrics_server.ingest.payload.v2 import rows_with_binary
from metrics_server.metrics.labels import EventKind

Body: TypeAlias = "bytes | msgspec.Raw"

_PROTOBUF_TYPES = {"application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf"}
_UNSTATED_TYPES = {"", "application/octet-stream"}
_AS_BYTES_BEHIND_JSON = {Reason.MALFORMED_JSON, Reason.NOT_A_NUMBER, Reason.INVALID_UTF8, Reason.SHAPE_MISMATCH}
_LONGEST_BLANK = 64  # bytes before JSON whose content type is not stated


def read(kind: EventKind, protocol: str, content_type: str, data: Body) -> ParsedPayload:
    """What the data of an event say.

    Args:
        kind: REQUEST, RESPONSE or FEEDBACK of `metrics_server.ingest.cloudevent`.
        protocol: as the event states it (seldon, tensorflow, v2, kfserving); "" when it does not. Only protobuf needs
            it: JSON shows its protocol by its members.
        content_type: as the event states it, "" when it does not. Believed where the body itself says nothing else,
            since KServe states the request's with the response.
        data: not compressed.

    Raises:
        Rejected: the data cannot be read. Never for a request, of which nothing is needed: its reading is then empty.
    """
    reader = _reader_of(kind, content_type, data)
    if kind != EventKind.REQUEST:
        return reader(protocol, data)
    try:
        return reader(protocol, data)
    except Rejected:
        return ParsedPayload()


Reader: TypeAlias = "Callable[[str, Body], ParsedPayload]"


def _reader_of(kind: EventKind, content_type: str, data: Body) -> Reader:
    """By the first byte, where it tells (no protobuf message of ours begins with a brace); else by what is stated."""
    if not isinstance(data, bytes) or data[:1] == b"{":
        return _JSON[kind]
    media = media_type(content_type)
    if media in _PROTOBUF_TYPES:
        return _PROTOBUF[kind]
    if kind == EventKind.RESPONSE and is_stream(data):
        return _read_stream
    if (
        media not in _UNSTATED_TYPES
        or (kind == EventKind.FEEDBACK and not media)
        or data[:_LONGEST_BLANK].lstrip()[:1] in (b"{", b"[")
    ):
        return _JSON[kind]
    return _PROTOBUF[kind]


def _read_response(protocol: str, data: Body) -> ParsedPayload:
    """A response in JSON. V2's may have bytes behind it, which make it look malformed in one way or another."""
    try:
        return read_response(data)
    except Rejected as error:
        if error.reason not in _AS_BYTES_BEHIND_JSON or (rows := rows_with_binary(bytes(data), "response")) is None:
            raise
    return ParsedPayload(response=opaque(rows or [None]))


def _read_stream(protocol: str, data: Body) -> ParsedPayload:
    return ParsedPayload(response=[None])


def _protobuf(kind: EventKind) -> Reader:
    """The reader of a kind in protobuf. The package is an extra: it is imported when such a body comes."""

    def read_protobuf(protocol: str, data: Body) -> ParsedPayload:
        try:
            from metrics_server.ingest.payload.protobuf import READERS
        except Exception as error:  # an ImportError, or protobuf's own error that it is too old
            raise Rejected(
                Reason.UNSUPPORTED_FORMAT, "protobuf is not read; install feedback-metrics-server[protobuf]"
            ) from error
        return READERS[kind](protocol, bytes(data))

    return read_protobuf


_JSON: dict[EventKind, Reader] = {
    EventKind.REQUEST: lambda protocol, data: read_request(data),
    EventKind.RESPONSE: _read_response,
    EventKind.FEEDBACK: lambda protocol, data: read_feedback(data),
}
_PROTOBUF: dict[EventKind, Reader] = {kind: _protobuf(kind) for kind in _JSON}
