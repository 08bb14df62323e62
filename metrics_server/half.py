"""Normalising: from an event of any sender to the half of a pair that it brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.event import FEEDBACK, MAX_ATTRIBUTE, REQUEST, RESPONSE, SHARED_ID_PREFIX, Event
from metrics_server.pairing import Arrival, Known, Reward, Said
from metrics_server.payload.rows import is_label
from metrics_server.payload.seldon import Reading, read_feedback, read_request, read_response
from metrics_server.series import Labels
from metrics_server.window import FUTURE_TOLERANCE

READERS: dict[str, Callable[[bytes | msgspec.Raw], Reading]] = {
    REQUEST: read_request,
    RESPONSE: read_response,
    FEEDBACK: read_feedback,
}


class Half(msgspec.Struct, frozen=True, gc=False):
    """What one event brings, and the keys of the records it concerns.

    Attributes:
        event: digest of the event's identity, b"" for a bare body, which has none.
        labels: whose prediction it names, with the defaults of this server filled in.
        keys: of the records it concerns. Where `joins`, one for each arrival; else the event's own, or none for a bare body.
        joins: whether it has a request id on which its halves can meet others.
        arrivals: one for each row.
        clamped: whether its time was too far in the future to be believed, so that the time of receipt was taken.
    """

    kind: str
    event: bytes
    labels: Labels
    keys: list[bytes]
    joins: bool
    arrivals: list[Arrival]
    clamped: bool = False


def half_of(event: Event, defaults: Labels, now: float) -> Half:
    """The half that an event of one of our kinds brings.

    Raises:
        Rejected: its payload cannot be read, or what it says of itself cannot be used.
    """
    reading = READERS[event.kind](event.data)
    stated = _stated(event.attributes)
    labels = stated if all(stated) else Labels(*(part or default for part, default in zip(stated, defaults, strict=True)))
    clamped = event.time is not None and event.time > now + FUTURE_TOLERANCE
    time = now if event.time is None or clamped else event.time
    arrivals = _arrivals(event.kind, reading, stated, labels, time)
    request_id = _request_id(event, reading)
    if not request_id and reading.truth is not None and reading.response is None and reading.reward is None:
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: a truth without its response needs a request id to join on")
    key = event.key if event.id else b""
    joins = bool(request_id and arrivals)
    keys = _row_keys(request_id, len(arrivals)) if joins else [key] if key else []
    return Half(event.kind, key, labels, keys, joins, arrivals, clamped)


def _row_keys(request_id: str, rows: int) -> list[bytes]:
    """The key of each row of a request. Rows of one request stand together in a table sorted by key."""
    digest = blake2b(request_id.encode(), digest_size=16).digest()
    return [digest + row.to_bytes(4) for row in range(rows)]


def _stated(attributes: Mapping[str, str]) -> Labels:
    """The labels an event states itself; "" for what it leaves open."""
    get = attributes.get
    return _checked(get("namespace", ""), get("inferenceservicename", ""), get("endpoint", ""), get("modelid") or get("component", ""))


@lru_cache(4096)
def _checked(*names: str) -> Labels:
    for name in names:
        if not is_label(name):
            raise Rejected(Reason.LABEL_TOO_LONG, "namespace, inferenceservicename, endpoint and modelid: at most 256 printable characters")
    return Labels(*names)


def _request_id(event: Event, reading: Reading) -> str:
    """The id to join on: the request id, for KServe the event's own, else the first that the client put into a body."""
    shared = event.id if event.type.startswith(SHARED_ID_PREFIX) else ""
    request_id = event.attributes.get("requestid") or shared or next(iter(reading.puids), "")
    if len(request_id) > MAX_ATTRIBUTE:
        raise Rejected(Reason.LABEL_TOO_LONG, f"a request id has at most {MAX_ATTRIBUTE} characters, {len(request_id)} were sent")
    return request_id


def _arrivals(kind: str, reading: Reading, stated: Labels, labels: Labels, time: float) -> list[Arrival]:
    response, truth = reading.response or [], reading.truth or []
    logged = kind == RESPONSE
    arrivals = [Arrival(Said(labels, time, time, logged, value)) for value in response]
    arrivals += [Arrival() for _ in range(max(len(truth), reading.reward is not None) - len(arrivals))]
    for arrival, value in zip(arrivals, truth, strict=False):
        arrival.known = Known(stated.namespace, stated.deployment, time, value)
    if reading.reward is not None:
        arrivals[0].reward = Reward(labels, time, time, reading.reward)
    return arrivals
