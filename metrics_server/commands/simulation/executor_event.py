"""The events that a Seldon executor logs: CloudEvents 1.0 over HTTP in binary mode, as they are on the wire.

Pure: ids, time and body come in, headers and body go out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple, TypeAlias
from uuid import UUID

REQUEST, RESPONSE, FEEDBACK = "inference.request", "inference.response", "feedback"

Message: TypeAlias = "tuple[dict[str, str], bytes]"  # HTTP headers and body


@dataclass(frozen=True)
class Origin:
    """The graph node that an executor logs for."""

    namespace: str
    deployment: str
    predictor: str
    model: str
    source: str = "http://:8000/"  # the same for every deployment


class Stamp(NamedTuple):
    """The attributes that differ in each event: its id, its time in UTC nanoseconds, and its trace."""

    event_id: str
    at_ns: int
    traceparent: str


def new_uuid(random: Random) -> str:
    """Draws a UUIDv4."""
    return str(UUID(int=random.getrandbits(128), version=4))


def new_stamp(random: Random, at_ns: int) -> Stamp:
    """Draws the id and the trace of one event at a time."""
    return Stamp(new_uuid(random), at_ns, f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-00")


def timestamp(at_ns: int) -> str:
    """Writes a time as Go does: RFC 3339 with nanoseconds."""
    seconds, nanoseconds = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def event(
    kind: str, origin: Origin, stamp: Stamp, puid: str, body: bytes, *, content_type: str = "application/json"
) -> Message:
    """Returns the event that is logged of a call, with the call's body, of kind REQUEST, RESPONSE or FEEDBACK.

    `puid` is that of the call. Feedback meets its prediction if the client sent the puid of the prediction again.
    """
    headers = {
        "Ce-Specversion": "1.0",
        "Ce-Id": stamp.event_id,
        "Ce-Type": f"io.seldon.serving.{kind}",
        "Ce-Source": origin.source,
        "Ce-Time": timestamp(stamp.at_ns),
        "Ce-Requestid": puid,
        "Ce-Modelid": origin.model,
        "Ce-Inferenceservicename": origin.deployment,
        "Ce-Namespace": origin.namespace,
        "Ce-Endpoint": origin.predictor,
        "Ce-Protocol": "seldon",
        "Ce-Traceparent": stamp.traceparent,
        "Traceparent": stamp.traceparent,
        "Content-Type": content_type,
        "User-Agent": "Go-http-client/1.1",
    }
    return headers, body


def batch(messages: Iterable[Message]) -> Message:
    """Puts events with JSON bodies into one message, in the batched mode of CloudEvents."""
    events = b",".join(_structured(*message) for message in messages)
    return {"Content-Type": "application/cloudevents-batch+json"}, b"[" + events + b"]"


def _structured(headers: Mapping[str, str], body: bytes) -> bytes:
    attributes = {name[3:].lower(): value for name, value in headers.items() if name.startswith("Ce-")}
    return json.dumps(attributes, separators=(",", ":"))[:-1].encode() + b',"data":' + body + b"}"
