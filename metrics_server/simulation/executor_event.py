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
    """What is new in each event: its id, its time in UTC nanoseconds, and its trace."""

    event_id: str
    at_ns: int
    traceparent: str


def new_uuid(random: Random) -> str:
    """A UUIDv4."""
    return str(UUID(int=random.getrandbits(128), version=4))


def new_stamp(random: Random, at_ns: int) -> Stamp:
    """Id, time and trace of one event."""
    return Stamp(new_uuid(random), at_ns, f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-00")


def timestamp(at_ns: int) -> str:
    """RFC 3339 with nanoseconds, as Go writes it."""
    seconds, nanoseconds = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def event(
    kind: str, origin: Origin, stamp: Stamp, puid: str, body: bytes, *, content_type: str = "application/json"
) -> Message:
    """What is logged of a call: its body as it was, of kind REQUEST, RESPONSE or FEEDBACK.

    `puid` is the call's. Feedback meets its prediction where the client sent the prediction's again.
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
    """Many events in one message, in the batched mode of CloudEvents; their bodies are JSON."""
    return {"Content-Type": "application/cloudevents-batch+json"}, b"[" + b",".join(
        _structured(*message) for message in messages
    ) + b"]"


def _structured(headers: Mapping[str, str], body: bytes) -> bytes:
    attributes = {name[3:].lower(): value for name, value in headers.items() if name.startswith("Ce-")}
    return json.dumps(attributes, separators=(",", ":"))[:-1].encode() + b',"data":' + body + b"}"
