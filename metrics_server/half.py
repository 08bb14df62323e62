"""Normalising: from an event of any sender to the half of a pair that it brings."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

import msgspec

from metrics_server.case import Known, Reward, Said
from metrics_server.errors import Reason, Rejected
from metrics_server.event import FEEDBACK, MAX_ATTRIBUTE, REQUEST, RESPONSE, SHARED_ID_PREFIX, Event
from metrics_server.pairing import Arrival
from metrics_server.payload import read
from metrics_server.payload.reading import Reading
from metrics_server.payload.rows import is_label
from metrics_server.selection import Selection
from metrics_server.series import Labels
from metrics_server.window import FUTURE_TOLERANCE

EVERYTHING = Selection()

_FIRST_ROW = bytes(4)

# Row n of a batch, as Seldon's batch processor and request logger name it.
_ITEM = re.compile(r"(.+)-item-(0|[1-9][0-9]{0,4})", re.DOTALL)


class Half(msgspec.Struct, frozen=True, gc=False):
    """What one event brings, and the keys of the cases it concerns.

    Attributes:
        kind: request, response or feedback.
        event: digest of the event's identity, b"" for a bare body, which has none.
        labels: whose prediction it names, with the defaults of this server filled in.
        time: seconds: when it was sent, as far as that can be believed.
        joins: whether it has a request id on which its halves can meet others.
        keys: where it joins, of the case of each row, under its own request id.
        aliases: what else it is known by, the best first: digest of a request id, and the number of the row there that is the
            first row here.
        arrivals: one for each row.
        clamped: whether its time was too far in the future to be believed, so that the time of receipt was taken.
        request_id: the id that the keys were made of, "" where there is none.
    """

    kind: str
    event: bytes
    labels: Labels
    time: float
    joins: bool
    keys: list[bytes]
    aliases: list[tuple[bytes, int]]
    arrivals: list[Arrival]
    clamped: bool = False
    request_id: str = ""


def row_key(request: bytes, row: int) -> bytes:
    """The key of a row of a request, by the digest of its id. Rows of one request stand together in a table sorted by key."""
    return request + row.to_bytes(4)


def half_of(event: Event, defaults: Labels, now: float, selection: Selection = EVERYTHING) -> Half:
    """The half that an event of one of our kinds brings.

    Raises:
        Rejected: its payload cannot be read, or what it says of itself cannot be used.
    """
    get = event.attributes.get
    reading = read(event.kind, get("protocol", ""), event.content_type, event.data)
    stated = _checked(get("namespace", ""), get("inferenceservicename", ""), get("endpoint", ""), get("modelid") or get("component", ""))
    labels = stated if all(stated) else Labels(*(part or default for part, default in zip(stated, defaults, strict=True)))
    clamped = event.time is not None and event.time > now + FUTURE_TOLERANCE
    time = now if event.time is None or clamped else event.time
    arrivals = _arrivals(event, reading, selection, stated, labels, time=time)
    ids = _ids(event, reading)
    if not ids and reading.truth is not None and reading.response is None and reading.reward is None:
        raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: a truth without its response needs a request id to join on")
    key = event.key if event.id else b""
    if not ids:
        return Half(event.kind, key, labels, time, False, [], [], arrivals, clamped)
    digest = digest_of(ids[0])
    aliases = aliases_of(ids, event.kind, len(arrivals)) if len(ids) > 1 or "-item-" in ids[0] else []
    # A request known by one id alone has nothing to tell those that come under it.
    rows = len(arrivals) if event.kind != REQUEST else 1 if aliases else 0
    keys = [digest + _FIRST_ROW] if rows == 1 else [row_key(digest, row) for row in range(rows)]
    return Half(event.kind, key, labels, time, bool(keys), keys, aliases, arrivals, clamped, ids[0])


@lru_cache(4096)
def _checked(*names: str) -> Labels:
    """The labels an event states itself; "" for what it leaves open."""
    for name in names:
        if not is_label(name):
            raise Rejected(Reason.LABEL_TOO_LONG, "namespace, inferenceservicename, endpoint and modelid: at most 256 printable characters")
    return Labels(*names)


def digest_of(request_id: str) -> bytes:
    """What stands for a request id in the keys of its rows."""
    return blake2b(request_id.encode(), digest_size=16).digest()


def _ids(event: Event, reading: Reading) -> list[str]:
    """The ids to join on, the best first: the request id, for KServe the event's own, then those that the client put into a body."""
    request_id = event.attributes.get("requestid") or (event.id if event.type.startswith(SHARED_ID_PREFIX) else "")
    if not reading.puids:
        ids = [request_id] if request_id else []
    else:
        ids = list(dict.fromkeys([request_id, *reading.puids] if request_id else reading.puids))
    for one in ids:
        if len(one) > MAX_ATTRIBUTE:
            raise Rejected(Reason.LABEL_TOO_LONG, f"a request id has at most {MAX_ATTRIBUTE} characters, {len(one)} were sent")
    return ids


def aliases_of(ids: list[str], kind: str, rows: int) -> list[tuple[bytes, int]]:
    """Where else the rows are filed. A single row of feedback may be named as an item of a batch; the exact id comes first."""
    found: list[tuple[bytes, int]] = []
    for position, one in enumerate(ids):
        if position:
            found.append((digest_of(one), 0))
        if kind == FEEDBACK and rows == 1 and (match := _ITEM.fullmatch(one)):
            found.append((digest_of(match[1]), int(match[2])))
    return found


def _arrivals(event: Event, reading: Reading, selection: Selection, stated: Labels, labels: Labels, *, time: float) -> list[Arrival]:
    scored = selection.scores(labels.model)
    if event.kind == FEEDBACK and reading.path and labels.model not in reading.path:
        scored = False  # logged by a node of the graph that did not take part in this prediction
    slices = selection.slices_of(event, reading.tags) if selection.dimensions else []
    response, truth = (reading.response or [] if scored else []), reading.truth or []
    logged = event.kind == RESPONSE
    arrivals = [Arrival(Said(labels, time, time, logged, value, slices=slices)) for value in response]
    if len(truth) > len(arrivals) or (reading.reward is not None and not arrivals):
        arrivals += [Arrival() for _ in range(max(len(truth), 1) - len(arrivals))]
    parked = None if response else labels
    for arrival, value in zip(arrivals, truth, strict=False):
        arrival.known = Known(stated.namespace, stated.deployment, time, value, labels=parked)
    if reading.reward is not None and arrivals and scored:
        arrivals[0].reward = Reward(labels, time, time, reading.reward, slices=slices)
    return arrivals
