"""The events that a Seldon executor logs: CloudEvents 1.0 over HTTP in binary mode, as they are on the wire.

Pure: ids, time and payload come in, headers and body go out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

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


def request_event(origin: Origin, stamp: Stamp, puid: str, names: Sequence[str], rows: Sequence[Sequence[float]]) -> Message:
    """Features on their way to the model; `names` are the columns of `rows`."""
    return _event("inference.request", origin, stamp, puid, {"data": {"names": names, "ndarray": rows}})


def response_event(origin: Origin, stamp: Stamp, puid: str, names: Sequence[str], rows: Sequence[Sequence[float]]) -> Message:
    """The model's answer; `names` are the classes, `rows` their probabilities."""
    return _event("inference.response", origin, stamp, puid, {"data": {"names": names, "ndarray": rows}, "meta": {}})


def feedback_event(
    origin: Origin, stamp: Stamp, puid: str, truth: Sequence[Any], response: Sequence[Sequence[float]] | None = None
) -> Message:
    """The truth of a prediction, one row each: a class index or a one-hot row. `puid` is the prediction's: the client sent it again."""
    own = {} if response is None else {"response": {"data": {"ndarray": response}}}
    return _event("feedback", origin, stamp, puid, {**own, "truth": {"data": {"ndarray": truth}}})


def _event(kind: str, origin: Origin, stamp: Stamp, puid: str, payload: Mapping[str, Any]) -> Message:
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
        "Content-Type": "application/json",
        "User-Agent": "Go-http-client/1.1",
    }
    return headers, json.dumps(payload, separators=(",", ":")).encode()
