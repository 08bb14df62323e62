"""Messages in gRPC's frames: a byte that says whether the message is compressed, its length in four bytes, the message.

KServe's agent logs the body of a call as it went over the wire, and the headers of the call but for its content type:
so grpc-encoding is not there, and gzip is recognised by its first two bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event, media_type
from metrics_server.ingest.decoding import GZIP_MAGIC, decompressed
from metrics_server.ingest.payload.rows import check_rows
from metrics_server.metrics.labels import EventKind

_TYPES = frozenset(("application/grpc", "application/grpc+proto"))
_PREFIX = struct.Struct(">BI")


def is_grpc(content_type: str) -> bool:
    """Tells whether data of this content type are messages of protobuf in frames."""
    return media_type(content_type) in _TYPES


def messages_of(body: bytes) -> list[bytes]:
    """The messages of a body, none of them compressed.

    Raises:
        Rejected: it is cut short, holds no message, or more than there may be rows.
    """
    messages = []
    for flag, message in _frames(body):
        if flag:
            raise Rejected(Reason.UNSUPPORTED_ENCODING, "gRPC: a message is still compressed")
        messages.append(message)
    if not messages:
        raise Rejected(Reason.MALFORMED_PAYLOAD, "gRPC: no message, as of a call that failed")
    return messages


def with_plain_messages(event: Event, limit: int) -> Event:
    """The event with its messages decompressed. A request is left as it is: nothing of it is needed.

    Args:
        event: its data are frames.
        limit: of the bytes of its data afterwards.

    Raises:
        Rejected: a frame is cut short, or compressed in a way that is not read, or all are too large.
    """
    data = bytes(event.data)
    if event.kind == EventKind.REQUEST or not any(flag for flag, _ in _frames(data)):
        return event
    plain = bytearray()
    for flag, message in _frames(data):
        shown = _decompressed(message, limit) if flag else message
        plain += _PREFIX.pack(0, len(shown)) + shown
        if len(plain) > limit:
            raise Rejected(Reason.BODY_TOO_LARGE, f"the body is larger than {limit} bytes after decompression")
    return msgspec.structs.replace(event, data=bytes(plain))


def _decompressed(message: bytes, limit: int) -> bytes:
    if not message.startswith(GZIP_MAGIC):
        raise Rejected(Reason.UNSUPPORTED_ENCODING, "gRPC: a message is compressed, and not with gzip")
    return decompressed(message, "gzip", limit)


def _frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Takes a body apart, see "Length-Prefixed-Message" in gRPC's "gRPC over HTTP2"."""
    position = found = 0
    while position < len(body):
        if len(body) - position < _PREFIX.size:
            raise Rejected(Reason.MALFORMED_PAYLOAD, "gRPC: the body ends within the prefix of a message")
        flag, length = _PREFIX.unpack_from(body, position)
        position += _PREFIX.size
        if flag > 1:
            raise Rejected(Reason.MALFORMED_PAYLOAD, f"gRPC: the flag of a message is {flag}, neither 0 nor 1")
        if length > (left := len(body) - position):
            raise Rejected(
                Reason.MALFORMED_PAYLOAD, f"gRPC: a message of {length} bytes is announced, and {left} follow"
            )
        check_rows(found := found + 1, "gRPC messages")
        yield flag, body[position : position + length]
        position += length
