"""Defines a row of the table of protocols: how the messages of a protocol are told from others, and read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from metrics_server.errors import Rejected
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.rows import Row
from metrics_server.metrics.labels import EventKind

ProtobufReader: TypeAlias = "Callable[[bytes], ParsedPayload | None]"


class OtherMessage(Rejected):
    """The bytes cannot be a message of the protocol; they may be one of another."""


def is_given(value: Any) -> bool:
    """Takes a member with any value but null."""
    return value is not None


class Member(NamedTuple):
    """A member of JSON messages that holds rows.

    Attributes:
        rows_of: reads its value; the text is what it is part of, for the sender.
        is_its: tells by a value that was sent whether it is this protocol's, where another has a member of this name.
        logged_only: read of logged responses, and not within a Feedback.
    """

    rows_of: Callable[[Any, str], list[Row]]
    is_its: Callable[[Any], bool] = bool
    logged_only: bool = False


class Protocol(NamedTuple):
    """A protocol of payloads.

    Attributes:
        title: its name for people.
        names: what the attribute `protocol` of an event calls it.
        members: by name, in the order in which they are looked for.
        protobuf: what reads its messages in protobuf, by the kind of event; None of a reader: it is another's message.
        tried: its place among the protocols whose messages a body in protobuf is tried as where none is stated.
        is_stream: tells whether a body is a stream of its answers, which is one opaque row.
        rows_behind_json: reads the rows of a JSON message with raw bytes behind it; None: it is none.
    """

    title: str
    names: tuple[str, ...] = ()
    members: Mapping[str, Member] = {}
    protobuf: Mapping[EventKind, ProtobufReader] = {}
    tried: int = 0
    is_stream: Callable[[bytes], bool] | None = None
    rows_behind_json: Callable[[bytes, str], list[Row] | None] | None = None


def first_parsed(readers: Iterable[ProtobufReader], body: bytes) -> ParsedPayload | None:
    """Reads a body as the first message that it can be; None when it can be none of them."""
    for read in readers:
        with suppress(OtherMessage):
            if (parsed := read(body)) is not None:
                return parsed
    return None
